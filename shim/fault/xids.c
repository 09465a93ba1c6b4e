// Sources. Meanings and remedies: NVIDIA's "Xid Errors" page and the resolution buckets of its Xid catalog, as NVSentinel reads
// it (shared facts, dynamo.md E3). Codes of 43, 48, 74, 79, 94, 95: those of the CUDA shim that Dynamo's tests use (dynamo.md
// C), so that suites written for it see the same ones; of 13 and 31: what the driver returns for them (an illegal instruction,
// an illegal access). 45, 62, 119, 120, 140: a program sees CUDA_ERROR_UNKNOWN, or in case of ECC its own code. Runtime and
// driver have had the same numbers since CUDA 10.1.
#include "xids.h"

#include <stddef.h>

enum {
  ILLEGAL_ADDRESS = 700,
  LAUNCH_TIMEOUT = 702,
  LAUNCH_FAILED = 719,
  ILLEGAL_INSTRUCTION = 715,
  ECC = 214,
  NO_DEVICE = 100,
  UNKNOWN = 999,
  PEER_ACCESS_UNSUPPORTED = 217,
  NVML_GPU_IS_LOST = 15,
  NVML_UNKNOWN = 999,
};

#define BOTH(code) code, code

const struct hf_xid hf_xids[] = {
    {13, "graphics engine exception", BOTH(ILLEGAL_INSTRUCTION), 0, HF_CONTEXT, false,
     "Graphics Exception: ESR 0x50c648=0x1000e", "restart_app",
     "a kernel did what the engine can't do: an illegal instruction, an index out of bounds"},
    {31, "memory page fault", BOTH(ILLEGAL_ADDRESS), 0, HF_CONTEXT, false,
     "MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ 0x7f_00000000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ",
     "restart_app", "a kernel reached for memory that is not mapped"},
    {43, "GPU stopped processing", BOTH(LAUNCH_TIMEOUT), 0, HF_CONTEXT, false, "Ch 00000010", "restart_app",
     "a program's work hit an error of its own and was stopped; the device goes on"},
    {45, "preemptive cleanup", BOTH(LAUNCH_FAILED), 0, HF_CONTEXT, false, "Ch 00000010", "restart_app",
     "a program's channels were torn down after another error, or by its end"},
    {48, "double bit ECC error", BOTH(ECC), 0, HF_DEVICE, true, "DBE (Double Bit Error) ECC Error", "reset_gpu",
     "memory has lost data, and the program that used it is ended"},
    {62, "internal micro-controller halt", BOTH(UNKNOWN), NVML_UNKNOWN, HF_DEVICE, false, "PMU Halt Error", "reset_gpu",
     "the device's own controller has stopped"},
    {63, "row remapping", BOTH(0), 0, HF_CALL, true, "Row Remapper: New row marked for remapping, reset gpu to activate.",
     "none", "a bad row of memory is to be replaced at the next reset; programs go on"},
    {64, "row remapping failed", BOTH(ECC), 0, HF_DEVICE, true, "Row Remapper: remapping failed", "reset_gpu",
     "a bad row of memory could not be replaced"},
    {74, "NVLink error", BOTH(PEER_ACCESS_UNSUPPORTED), 0, HF_CONTEXT, false, "NVLink: fatal error detected on link 0",
     "check_link", "a link between devices has failed"},
    {79, "fallen off the bus", BOTH(NO_DEVICE), NVML_GPU_IS_LOST, HF_DEVICE, false, "GPU has fallen off the bus.",
     "restart_machine", "the device does not answer any more"},
    {94, "contained memory error", BOTH(ECC), 0, HF_CONTEXT, true, "Contained memory error", "restart_app",
     "memory has lost data; only the program that used it is ended"},
    {95, "uncontained memory error", BOTH(UNKNOWN), 0, HF_DEVICE, true, "Uncontained memory error", "reset_gpu",
     "memory has lost data, and any program may have used it"},
    {119, "GSP RPC timeout", BOTH(UNKNOWN), NVML_UNKNOWN, HF_DEVICE, false,
     "Timeout after 6s of waiting for RPC response from GPU0 GSP! Expected function 76 (GSP_RM_CONTROL)", "reset_gpu",
     "the device's system processor does not answer the driver"},
    {120, "GSP error", BOTH(UNKNOWN), NVML_UNKNOWN, HF_DEVICE, false, "GSP task exception", "reset_gpu",
     "the device's system processor has failed"},
    {140, "unrecovered ECC error", BOTH(ECC), 0, HF_DEVICE, true, "ECC unrecovered error", "reset_gpu",
     "memory errors were seen that the device could not attribute"},
    {0},
};

const struct hf_xid* hf_xid(int xid) {
  for (const struct hf_xid* entry = hf_xids; entry->xid != 0; ++entry) {
    if (entry->xid == xid) return entry;
  }
  return NULL;
}
