// XID faults: what the driver's number for a kind of failure means for a program, for NVML, and for whoever has to repair it.
#pragma once

#include <stdbool.h>

#include "block.h"

struct hf_xid {
  int xid;
  const char* name;
  int driver, runtime, nvml;  ///< What calls return. 0: they do not fail.
  enum hf_reach reach;
  bool ecc;            ///< NVML counts an uncorrectable memory error, and a row to be remapped.
  const char* text;    ///< In the kernel log, after `NVRM: Xid (PCI:...): <xid>, `.
  const char* remedy;  ///< restart_app, reset_gpu, restart_machine, check_link, none.
  const char* meaning;
};

/// NULL for one that we know nothing of.
const struct hf_xid* hf_xid(int xid);
/// In ascending order; ends with an entry whose xid is 0.
extern const struct hf_xid hf_xids[];
