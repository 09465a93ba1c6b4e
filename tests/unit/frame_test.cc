// The golden frames in protocol/golden are read by this test and by tests/unit/test_wire.py.
#include "wire/frame.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "wire/fields.h"

namespace holdfast::wire {
namespace {

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::vector<std::filesystem::path> frames(const char* kind) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(HOLDFAST_GOLDEN) + "/" + kind)) {
    if (entry.path().extension() == ".frame") found.push_back(entry.path());
  }
  return found;
}

TEST(Golden, GoodFramesAreWhatTheirJsonSays) {
  ASSERT_GE(frames("good").size(), 15U);
  for (const auto& path : frames("good")) {
    auto expected = nlohmann::json::parse(read(std::filesystem::path(path).replace_extension(".json")));
    Decoder decoder(kTestFrameLimit);
    decoder.feed(read(path));
    std::string payload;
    ASSERT_TRUE(decoder.next(payload).value()) << path;
    EXPECT_EQ(nlohmann::json::parse(payload), expected) << path;
    EXPECT_EQ(decoder.pending(), 0U) << path;
    Decoder again(kTestFrameLimit);
    again.feed(encode(expected.dump()));
    ASSERT_TRUE(again.next(payload).value()) << path;
    EXPECT_EQ(nlohmann::json::parse(payload), expected) << path;
  }
}

TEST(Golden, BadFramesAreRefused) {
  ASSERT_GE(frames("bad").size(), 8U);
  for (const auto& path : frames("bad")) {
    Decoder decoder(kTestFrameLimit);
    decoder.feed(read(path));
    std::string payload;
    Result<bool> got = decoder.next(payload);
    bool refused = !got || !nlohmann::json::parse(payload, nullptr, false).is_object();
    EXPECT_TRUE(refused) << path;
  }
}

TEST(Decoder, CutsAStreamThatArrivesByteByByte) {
  std::string stream = encode("{\"a\":1}") + encode("{}") + encode("{\"b\":2}");
  Decoder decoder(100);
  std::vector<std::string> got;
  for (char byte : stream) {
    decoder.feed({&byte, 1});
    std::string payload;
    while (decoder.next(payload).value()) got.push_back(payload);
  }
  EXPECT_EQ(got, (std::vector<std::string>{"{\"a\":1}", "{}", "{\"b\":2}"}));
}

TEST(Decoder, KeepsRefusingAfterAnOversizedFrame) {
  Decoder decoder(10);
  decoder.feed(encode(std::string(11, 'x')));
  std::string payload;
  EXPECT_FALSE(decoder.next(payload));
  decoder.feed(encode("{}"));
  EXPECT_FALSE(decoder.next(payload));
}

TEST(Decoder, AcceptsAFrameOfExactlyTheLimit) {
  Decoder decoder(10);
  decoder.feed(encode(std::string(10, 'x')));
  std::string payload;
  EXPECT_TRUE(decoder.next(payload).value());
  EXPECT_EQ(payload.size(), 10U);
}

TEST(Fields, OfAnotherTypeCountAsMissing) {
  // Parsed, as frames are: a C++ literal would be a signed number.
  auto frame =
      nlohmann::json::parse(R"({"t":7,"node":true,"pid":-1,"shared":"yes","duration":"long","exit":3,"reason":[1],"mine":1})");
  drop_wrong_fields(frame);
  EXPECT_EQ(frame, nlohmann::json::parse(R"({"mine":1})"));
  const auto good =
      nlohmann::json::parse(R"({"t":"at","node":"","pid":1,"shared":false,"duration":1,"exit":{"code":3},"status":-1})");
  nlohmann::json same = good;
  drop_wrong_fields(same);
  EXPECT_EQ(same, good);
}

}  // namespace
}  // namespace holdfast::wire
