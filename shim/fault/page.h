// A page that a controller has open.
#pragma once

#include <stdbool.h>

#include "block.h"
#include "functions.h"

/// Whether that is a page of this version, with room for what it says.
static inline bool hf_block_is_sound(const struct hf_block* block, uint64_t bytes) {
  return block->magic == HF_MAGIC && block->version == HF_VERSION && block->functions == HF_FUNCTION_COUNT &&
         block->rows != 0 && hf_block_size(block->rows) <= bytes;
}

struct hf_control {
  int fd;
  size_t bytes;
  struct hf_block* block;
};
