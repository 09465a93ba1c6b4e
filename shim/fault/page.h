// A page that a controller has open.
#pragma once

#include "block.h"
#include "functions.h"

struct hf_control {
  int fd;
  size_t bytes;
  struct hf_block* block;
};
