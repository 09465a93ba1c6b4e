// From what a user asks for to a fault on the page, or to a sentence about what is wrong with it.
#pragma once

#include <stdbool.h>

#include "block.h"
#include "control.h"

/// Words for enum hf_kind (from 1 on), hf_reach, hf_api, and, in capitals, hf_group.
extern const char* const hf_kind_names[];
extern const char* const hf_reach_names[];
extern const char* const hf_api_names[];
extern const char* const hf_group_names[];

bool hf_fault_from(const struct hf_wish* wish, struct hf_fault* fault, char* problem, size_t size);
/// Not if it contradicts one that is armed: a device can be broken in one way at a time.
bool hf_fault_fits(const struct hf_block* block, const struct hf_fault* fault, char* problem, size_t size);
