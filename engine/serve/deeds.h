// What the fault service can do. Each function checks the body of a request; a Result's error says what is wrong with it.
#pragma once

#include "serve/faults.h"

namespace holdfast::serve {

/// On the page: {fault_type, xid_type?, gpu_id?, uuid?, functions?, after_calls?, ...}, as docs/faultd.md has it. `target` and
/// `type` are set.
Result<std::unique_ptr<Deed>> make_gpu_deed(const Settings& settings, KernelLog& kernel, const Json& body, std::string& type,
                                            std::string& target);
/// The XIDs that can be imitated (hf_control_xids).
Json xid_table();
/// {pid, action: kill|stop|slow, percent?, tree?, container?}: with `container` (an id), `pid` is its number in there.
Result<std::unique_ptr<Deed>> make_process_deed(const Json& body, std::string& type, std::string& target);

/// {pid, bytes | percent}: in the control group of that process.
Result<std::unique_ptr<Deed>> make_memory_deed(const Json& body, std::string& type, std::string& target);
/// {folder, bytes | leave_free}
Result<std::unique_ptr<Deed>> make_disk_deed(const Json& body, std::string& type, std::string& target);

/// {pid, folder, bytes_per_second}: that disk, for the control group of that process.
Result<std::unique_ptr<Deed>> make_throttle_deed(const Json& body, std::string& type, std::string& target);
/// {name}: a network namespace for processes to be started in.
Result<std::unique_ptr<Deed>> make_namespace_deed(Networks& networks, const Json& body, std::string& type, std::string& target);
/// {namespace, delay?, loss?, seed?, partition?}, or {container, partition: true}: a container is cut off, with all of its pod.
Result<std::unique_ptr<Deed>> make_network_deed(Networks& networks, const Json& body, std::string& type, std::string& target);

// For all: a field of the right kind, or `otherwise`; `problem` is set where it is of another one.
double number_of(const Json& body, const char* name, double otherwise, double least, double most, std::string& problem);
bool flag_of(const Json& body, const char* name, bool otherwise, std::string& problem);
std::string text_of(const Json& body, const char* name, const std::string& otherwise, std::string& problem);

}  // namespace holdfast::serve
