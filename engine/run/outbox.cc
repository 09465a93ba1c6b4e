#include "run/outbox.h"

#include <utility>

namespace holdfast::run {

namespace {

// Seconds for which verdicts are gathered.
constexpr double kGather = 0.02;

}  // namespace

bool Outbox::commit() {
  if (host_.commit()) {
    safe_ = news_.size();
    return true;
  }
  for (std::size_t i = safe_; i < news_.size(); ++i) host_.lost(news_[i]);
  news_.resize(safe_);
  return false;
}

bool Outbox::deliver() {
  loop_.cancel(timer_);
  timer_ = 0;
  bool kept = commit();
  safe_ = 0;
  for (const News& news : std::exchange(news_, {})) host_.show(news);
  return kept;
}

void Outbox::deliver_soon() {
  if (timer_ == 0) timer_ = loop_.call_after(os::seconds(kGather), [this] { deliver(); });
}

}  // namespace holdfast::run
