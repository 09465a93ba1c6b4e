// The environment variables and marker files of the shim that Dynamo's tests use, for suites that were written for it.
#pragma once

#include "block.h"

void hf_seed_start(struct hf_block* block);
void hf_seed_watch(void);  ///< Starts the thread that watches the marker, when the first call is made that needs it.
void hf_seed_forked(void);
