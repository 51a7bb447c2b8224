// Plans are costly to make and the same few sizes come back at every step: each is made once.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include <triad/backends/cpu/index.h>

namespace triad::cpu {

// The Plan(n) of this process. Safe from any thread; a plan lives as long as anybody holds it.
template <class Plan>
std::shared_ptr<const Plan> cached_plan(Index n) {
  static constexpr std::size_t kMost = 64;  // a text that grows token by token visits every size
  static std::mutex mutex;
  static std::map<Index, std::shared_ptr<const Plan>> plans;
  const std::lock_guard lock(mutex);
  if (auto found = plans.find(n); found != plans.end()) return found->second;
  if (plans.size() == kMost) plans.clear();
  return plans[n] = std::make_shared<const Plan>(n);
}

}  // namespace triad::cpu
