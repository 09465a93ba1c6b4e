#include "inventory/gpus.h"

#include <gtest/gtest.h>

#include <map>

#include "inventory/visible_gpus.h"
#include "run/devices.h"

namespace holdfast::inventory {

static std::vector<Gpu> some(std::size_t count, const std::string& vendor = "nvidia") {
  std::vector<Gpu> gpus(count);
  for (std::size_t i = 0; i < count; ++i) {
    gpus[i].id = std::to_string(i);
    gpus[i].vendor = vendor;
    gpus[i].uuid = "GPU-" + std::string(1, static_cast<char>('a' + i)) + "0000";
  }
  return gpus;
}

namespace {

Result<std::vector<Gpu>> seen(const std::vector<Gpu>& all, const std::map<std::string, std::string>& environment) {
  return visible_gpus(all, [&](const char* name) {
    auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

std::string ids(const Result<std::vector<Gpu>>& gpus) {
  std::string text;
  for (const Gpu& gpu : *gpus) text += gpu.id + " ";
  return text;
}

TEST(VisibleGpus, WithoutAListAllAreSeen) { EXPECT_EQ(ids(seen(some(3), {})), "0 1 2 "); }

TEST(VisibleGpus, AListIsReadInAllItsForms) {
  for (auto [list, result] : std::map<std::string, std::string>{
           {"2,0", "2 0 "}, {"", ""}, {"-1", ""}, {"1,-1,2", "1 "}, {"GPU-b", "1 "}, {"GPU-c0000, 0", "2 0 "}}) {
    auto found = seen(some(3), {{"CUDA_VISIBLE_DEVICES", list}});
    ASSERT_TRUE(found) << list;
    EXPECT_EQ(ids(found), result) << list;
  }
}

TEST(VisibleGpus, AWrongListIsTheUsersMistake) {
  for (const char* list : {"0,0", "7", "GPU-x", "GPU-", "lots", "GPU-a,0"}) {
    auto found = seen(some(3), {{"CUDA_VISIBLE_DEVICES", list}});
    ASSERT_FALSE(found) << list;
    EXPECT_EQ(found.error().kind, ErrorKind::UserMistake);
    EXPECT_NE(found.error().message().find(list), std::string::npos) << found.error().message();
  }
}

TEST(VisibleGpus, AMigInstanceIsNamedByItsUuid) {
  std::vector<Gpu> gpus = some(1);
  gpus[0].id = gpus[0].uuid = "MIG-1234";
  EXPECT_EQ(ids(seen(gpus, {{"CUDA_VISIBLE_DEVICES", "MIG-1234"}})), "MIG-1234 ");
}

TEST(VisibleGpus, HipCountsAmongThoseThatRocrLeavesOver) {
  EXPECT_EQ(ids(seen(some(4, "amd"), {{"ROCR_VISIBLE_DEVICES", "3,1"}, {"HIP_VISIBLE_DEVICES", "1"}})), "1 ");
  EXPECT_EQ(ids(seen(some(4, "amd"), {{"HIP_VISIBLE_DEVICES", "2"}})), "2 ");
  EXPECT_EQ(ids(seen(some(4, "amd"), {{"CUDA_VISIBLE_DEVICES", "2"}})), "2 ");
}

TEST(VisibleGpus, ATestIsToldOfItsOwnOnly) {
  auto find = [](const std::vector<Gpu>& gpus, const std::string& name) {
    for (const auto& [variable, value] : environment_for(gpus)) {
      if (variable == name) return value;
    }
    return std::string("absent");
  };
  std::vector<Gpu> two = {some(4)[1], some(4)[3]};
  EXPECT_EQ(find(two, "CUDA_VISIBLE_DEVICES"), "1,3");
  EXPECT_EQ(find(two, "CUDA_DEVICE_ORDER"), "PCI_BUS_ID");
  std::vector<Gpu> amd = {some(4, "amd")[1], some(4, "amd")[3]};
  EXPECT_EQ(find(amd, "ROCR_VISIBLE_DEVICES"), "1,3");
  EXPECT_EQ(find(amd, "HIP_VISIBLE_DEVICES"), "0,1");
  EXPECT_EQ(find(amd, "HOLDFAST_GPU_IDS"), "1,3");
  EXPECT_EQ(find({}, "CUDA_VISIBLE_DEVICES"), "");
}

TEST(Gpus, NvidiaSmiIsUnderstood) {
  auto found = read_nvidia_smi(
      "0, GPU-1, NVIDIA H100 80GB HBM3, 81559, 3, 00000000:19:00.0, 9.0\n"
      "nonsense\n"
      "1, GPU-2, NVIDIA A100, [N/A], 0, 00000000:3B:00.0, 8.0\n");
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].total, std::uint64_t{81559} << 20U);
  EXPECT_EQ(found[0].arch, "9.0");
  EXPECT_TRUE(found[0].problem.empty());
  EXPECT_FALSE(found[1].problem.empty());
}

TEST(Gpus, RocmSmiIsUnderstood) {
  auto found = read_rocm_smi(
      R"json({"card0": {"Unique ID": "0x1a2b", "VRAM Total Memory (B)": "68702699520", "VRAM Total Used Memory (B)": "1024",
          "Card Series": "AMD Instinct MI250X"}, "system": {"Driver version": "6"}})json");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].uuid, "GPU-1a2b");
  EXPECT_EQ(found[0].used, 1024U);
  EXPECT_TRUE(read_rocm_smi("WARNING: no driver").empty());
}

TEST(Gpus, AllOfItSurvivesJson) {
  Gpu gpu = some(1)[0];
  gpu.total = 5;
  gpu.processes = {{12, 3}};
  gpu.problem = "lost";
  EXPECT_EQ(to_json(gpu_of_json(to_json(gpu))), to_json(gpu));
}

}  // namespace
}  // namespace holdfast::inventory

namespace holdfast::run {
namespace {

TEST(GpuWords, OnlyWhatADeviceMayBeToBlameForIsFound) {
  EXPECT_EQ(gpu_words_in("RuntimeError: CUDA out of memory. Tried"), "CUDA out of memory");
  EXPECT_EQ(gpu_words_in("torch.AcceleratorError: cuda error: unknown"), "CUDA error");
  EXPECT_EQ(gpu_words_in("device-side assert triggered"), "device-side assert");
  EXPECT_EQ(gpu_words_in("assert 1 == 2"), "");
}

TEST(GpuWords, HardwareXidsAreToldFromThoseOfPrograms) {
  for (int xid : {48, 79, 94, 95}) EXPECT_TRUE(is_hardware_xid(xid)) << xid;
  for (int xid : {13, 31, 43, 45}) EXPECT_FALSE(is_hardware_xid(xid)) << xid;
}

// ---- Devices, with a recording fake of the seam ----------------------------------------------------------------------------

class FakeProbe : public inventory::GpuProbe {
 public:
  explicit FakeProbe(os::Loop& loop) : loop_(loop) {}
  void look(OnLook then) override {
    ++looks;
    loop_.call_after({}, [this, then] { then(next); });
  }
  void probe(const inventory::Gpu& gpu, OnProbed then) override {
    probed.push_back(gpu.id);
    loop_.call_after({}, [this, then] { then(healthy, "sick"); });
  }
  void watch(bool on) override { watching = on; }
  [[nodiscard]] bool owns(pid_t) const override { return false; }

  inventory::GpuLook next;
  std::vector<std::string> probed;
  int looks = 0;
  bool healthy = true;
  bool watching = false;

 private:
  os::Loop& loop_;
};

class DevicesTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"}) ::unsetenv(name);
    auto opened = os::Loop::open(clock_);
    ASSERT_TRUE(opened);
    loop_ = std::make_unique<os::Loop>(std::move(*opened));
    auto probe = std::make_unique<FakeProbe>(*loop_);
    probe_ = probe.get();
    probe_->next.answered = true;
    probe_->next.gpus = inventory::some(2);
    for (inventory::Gpu& gpu : probe_->next.gpus) gpu.total = 80 * kGib;
    DevicesHost host;
    host.note = [this](const std::string& text) { notes.push_back(text); };
    host.log = [](const char*, const nlohmann::ordered_json&) {};
    host.on_usable = [this](int device, bool usable) { usable_changes.emplace_back(device, usable); };
    host.on_foreign = [](int, std::uint64_t) {};
    devices_ = std::make_unique<Devices>(*loop_, std::move(probe), host);
    devices_->open(-1, [this](const Status& status) {
      EXPECT_TRUE(status);
      loop_->stop();
    });
    ASSERT_TRUE(loop_->run());
  }

  Settled settle(bool failed, const std::string& failure, bool shared = false) {
    Devices::Ended ended;
    ended.lease = {{0}, 0};
    ended.id = "test";
    ended.began = os::to_seconds(clock_.now().time_since_epoch()) - 1;
    ended.failed = failed;
    ended.failure = failure;
    ended.lease.shared = shared;
    devices_->begin(ended.lease, "test");
    Settled result;
    devices_->settle(ended, [&](Settled settled) {
      result = std::move(settled);
      loop_->stop();
    });
    EXPECT_TRUE(loop_->run());
    return result;
  }

  static constexpr std::uint64_t kGib = std::uint64_t{1} << 30U;
  os::SystemClock clock_;
  std::unique_ptr<os::Loop> loop_;
  FakeProbe* probe_ = nullptr;
  std::unique_ptr<Devices> devices_;
  std::vector<std::string> notes;
  std::vector<std::pair<int, bool>> usable_changes;
};

TEST_F(DevicesTest, WhatIsBackIsLeasedAgainAtOnce) {
  Settled settled = settle(false, "");
  EXPECT_TRUE(settled.leaks.empty());
  EXPECT_TRUE(probe_->probed.empty());
  EXPECT_FALSE(probe_->watching);
}

TEST_F(DevicesTest, MemoryThatDoesNotComeBackIsChargedOnceAndTheDeviceProbed) {
  probe_->next.gpus[0].used = 3 * kGib;
  Settled settled = settle(false, "");
  ASSERT_EQ(settled.leaks.size(), 1U);
  EXPECT_NE(settled.leaks[0].text.find("3.0 GiB of GPU 0"), std::string::npos) << settled.leaks[0].text;
  EXPECT_EQ(probe_->probed, std::vector<std::string>{"0"});
  EXPECT_TRUE(settle(false, "").leaks.empty());
}

TEST_F(DevicesTest, AFailureThatSaysNothingOfGpusIsTheTests) {
  EXPECT_EQ(settle(true, "assert 1 == 2").suspicion.devices, 0U);
  EXPECT_TRUE(probe_->probed.empty());
}

TEST_F(DevicesTest, WordsAloneAreASuspicionAndNoProof) {
  Settled settled = settle(true, "CUDA error: unknown error");
  EXPECT_EQ(settled.suspicion.devices, 1U);
  EXPECT_FALSE(settled.suspicion.proved);
  EXPECT_EQ(probe_->probed, std::vector<std::string>{"0"});
}

TEST_F(DevicesTest, OutOfMemoryOnASharedDeviceIsTheCrowds) {
  EXPECT_TRUE(settle(true, "CUDA out of memory", true).suspicion.crowded);
  EXPECT_FALSE(settle(true, "CUDA out of memory", false).suspicion.crowded);
}

TEST_F(DevicesTest, AFailedProbeTakesTheDeviceOutAndIsProof) {
  probe_->healthy = false;
  Settled settled = settle(true, "CUDA error: unknown error");
  EXPECT_TRUE(settled.suspicion.proved);
  EXPECT_EQ(usable_changes, (std::vector<std::pair<int, bool>>{{0, false}}));
}

TEST_F(DevicesTest, AnXidOfTheHardwareIsProofButNotOneOfAProgram) {
  probe_->on_event({"GPU-a0000", 31});
  EXPECT_FALSE(settle(true, "").suspicion.proved);
  probe_->on_event({"GPU-a0000", 79});
  EXPECT_TRUE(settle(true, "").suspicion.proved);
}

TEST_F(DevicesTest, ThreeStrikesInARowTakeADeviceOutAndAPassForgivesThem) {
  devices_->strike(1, "x");
  devices_->strike(1, "x");
  devices_->worked({{0}, 0});
  devices_->strike(1, "x");
  devices_->strike(1, "x");
  EXPECT_TRUE(usable_changes.empty());
  devices_->strike(1, "x");
  EXPECT_EQ(usable_changes, (std::vector<std::pair<int, bool>>{{0, false}}));
}

TEST_F(DevicesTest, ADriverThatNoLongerAnswersStopsNobody) {
  probe_->next.answered = false;
  probe_->next.problems = {"silence"};
  Settled settled = settle(true, "CUDA error");
  EXPECT_FALSE(settled.suspicion.proved);
  ASSERT_FALSE(notes.empty());
  EXPECT_NE(notes.back().find("silence"), std::string::npos);
  int looks = probe_->looks;
  settle(false, "");
  EXPECT_EQ(probe_->looks, looks);
}

TEST_F(DevicesTest, ADeviceThatWorksAgainComesBack) {
  probe_->healthy = false;
  settle(true, "CUDA error");
  probe_->healthy = true;
  devices_->try_again([this] { loop_->stop(); });
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(usable_changes.back(), (std::pair<int, bool>{0, true}));
  EXPECT_TRUE(devices_->any_usable());
}

}  // namespace
}  // namespace holdfast::run
