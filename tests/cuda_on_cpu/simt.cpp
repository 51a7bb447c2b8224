// The scheduler of simt.h: a fiber for every thread, barriers, shared memory.

#include <fiber.h>
#include <poison.h>
#include <simt.h>
#include <simulated_device.h>

#include <algorithm>
#include <array>
#include <climits>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <span>
#include <utility>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simt {

int lane, schedule = 0;

namespace {

// ---------------------------------------------------------------------- a block

void run_threads();  // what a fiber does

enum class State { fresh, ready, polling, at_warp, at_block, done };

}  // namespace

// What runs on its own, in groups; the last group is not committed.
struct Groups {
  std::vector<std::vector<std::function<void()>>> all;

  void add(std::function<void()> work) {
    if (all.empty()) all.emplace_back();
    all.back().push_back(std::move(work));
  }
  void commit() {
    if (all.empty()) all.emplace_back();
    all.emplace_back();
  }
  // Does all but the newest so many groups.
  void wait(int groups_left) {
    for (; int(all.size()) - 1 > groups_left; all.erase(all.begin()))
      for (const auto& work : all.front()) work();
  }
};

struct Thread {
  uint3 index;
  int lane, warp;
  State state;
  std::unique_ptr<Fiber> fiber;
  const char* operation;              // that it waits at
  const std::function<bool()>* poll;  // what it waits for
  int letters;                        // how many it has written
  Groups copies, products;
};

namespace {

struct SharedRegion {
  std::byte* bytes;  // with kGuard before it
  std::size_t size;
};

std::mutex mutex;
std::vector<SharedRegion>& shared_arrays() {
  static auto& arrays = *new std::vector<SharedRegion>;
  return arrays;
}

struct NamedBarrier {
  int threads, came = 0, round = 0;
};

// How many lanes of a warp are in each state.
struct Warp {
  int lanes[int(State::done) + 1] = {};

  int& operator[](State state) { return lanes[int(state)]; }
  int runnable() { return (*this)[State::fresh] + (*this)[State::ready]; }
};

struct Runner {
  const std::function<void()>& body;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<std::byte> letters;      // [warp][2][32][64]
  std::vector<std::uint32_t> present;  // [warp][2]: the lanes that wrote there
  std::vector<std::byte> dynamic;      // a guard, the dynamic shared memory, a guard
  std::size_t dynamic_bytes;
  std::mt19937 random{unsigned(schedule)};
  std::vector<std::unique_ptr<Fiber>>& idle;
  Fiber scheduler;
  Thread* current = nullptr;
  std::array<int, 32> order;  // of lanes, in which those of a warp run
  int turn = 0, end = 32;     // how many of them have, and how many shall before another warp does
  std::exception_ptr error;
  std::vector<std::function<void()>> late;  // see do_late
  bool polls = false;                       // whether what threads poll may have changed
  NamedBarrier named[16];

  static std::vector<std::unique_ptr<Fiber>>& idle_fibers() {
    static auto& fibers = *new std::vector<std::unique_ptr<Fiber>>;
    return fibers;
  }

  Runner(dim3 block, std::size_t shared_bytes, const std::function<void()>& body)
      : body(body), threads(std::size_t(block.x) * block.y * block.z),
        warps((threads.size() + 31) / 32), letters(warps.size() * 2 * 32 * 64),
        present(warps.size() * 2), dynamic(shared_bytes + 2 * kGuard), dynamic_bytes(shared_bytes),
        idle(idle_fibers()) {}
  ~Runner() { ASAN_UNPOISON_MEMORY_REGION(dynamic.data(), dynamic.size()); }

  void become(Thread& t, State state) {
    --warps[std::size_t(t.warp)][t.state];
    ++warps[std::size_t(t.warp)][t.state = state];
  }

  std::span<Thread> lanes_of(int warp) {
    const std::size_t first = std::size_t(warp) * 32;
    return {&threads[first], std::min<std::size_t>(threads.size() - first, 32)};
  }
  // The next lane of the warp whose turn it is, from its fiber or from the scheduler's.
  Thread* next_lane(int warp) {
    const std::span<Thread> own = lanes_of(warp);
    while (turn < end) {
      const auto lane = std::size_t(order[std::size_t(turn++)]);
      if (lane < own.size() && own[lane].state <= State::ready) return &own[lane];
    }
    return nullptr;
  }
  void go_on(Fiber& from, Thread& t) {
    if (!t.fiber) {
      if (idle.empty()) idle.push_back(std::make_unique<Fiber>(run_threads));
      t.fiber = std::move(idle.back());
      idle.pop_back();
      become(t, State::ready);
    }
    current = &t;
    threadIdx = t.index, lane = t.lane;
    switch_fiber(from, *t.fiber);
  }
  // The lanes of a warp that can, one after the other, until they wait or have ended.
  void run_warp(int warp) {
    for (turn = 0; Thread* t = next_lane(warp);) {
      go_on(scheduler, *t);
      if (current->state == State::done) idle.push_back(std::move(current->fiber));
      if (error) std::rethrow_exception(error);
    }
  }

  void release(int warp, State from) {
    const char* operation = nullptr;
    std::uint32_t lanes = 0;
    std::size_t box = 0;
    for (Thread& t : lanes_of(warp)) {
      if (t.state != from) continue;
      if (operation && operation != t.operation && std::strcmp(operation, t.operation) != 0)
        fail(std::string("lanes of one warp wait at ") + operation + " and at " + t.operation);
      operation = t.operation;
      become(t, State::ready);
      lanes |= 1u << t.lane;
      box = std::size_t(warp) * 2 + std::size_t((t.letters + 1) % 2);
    }
    if (from == State::at_warp) present[box] = lanes;
  }

  void run_block() {
    const int count = int(warps.size());
    std::vector<int> runnable;
    std::iota(order.begin(), order.end(), 0);
    if (schedule == 1) std::reverse(order.begin(), order.end());
    int warp = schedule == 1 ? count - 1 : 0;
    if (schedule > 1) warp = int(random() % unsigned(count));
    for (;;) {
      if (schedule > 1) {
        std::shuffle(order.begin(), order.end(), random);
        end = random() % 8 == 0 ? int(random() % 32) : 32;
      }
      run_warp(warp);
      Warp& now = warps[std::size_t(warp)];
      if (now[State::at_warp] > 0 && now[State::polling] == 0 && now.runnable() == 0) {
        if (now[State::at_block] > 0)
          fail("lanes of one warp wait at a warp operation and at __syncthreads");
        release(warp, State::at_warp);
        if (schedule <= 1) continue;  // this warp runs on, ahead of the others
      }
      if (schedule > 1 && !late.empty() && random() % 4 == 0) do_late_work();
      bool waiting = false, polling = false;
      do {
        poll();
        runnable.clear();
        waiting = polling = false;
        for (int w = 0; w < count; ++w) {
          Warp& state = warps[std::size_t(w)];
          if (state.runnable() > 0) runnable.push_back(w);
          waiting |= state[State::at_block] > 0, polling |= state[State::polling] > 0;
        }
      } while (runnable.empty() && (waiting || polling) && do_late_work());
      if (runnable.empty()) {
        if (polling) fail("threads wait for a barrier whose phase does not end");
        if (!waiting) return;
        for (int w = 0; w < count; ++w) {
          release(w, State::at_block);
          if (warps[std::size_t(w)].runnable() > 0) runnable.push_back(w);
        }
      }
      warp = schedule == 0   ? runnable.front()
             : schedule == 1 ? runnable.back()
                             : runnable[random() % runnable.size()];
    }
  }

  void poll() {
    if (!std::exchange(polls, false)) return;
    for (Thread& t : threads)
      if (t.state == State::polling && (*t.poll)()) become(t, State::ready);
  }
  bool do_late_work() {
    if (late.empty()) return false;
    const std::size_t i = schedule == 0   ? 0
                          : schedule == 1 ? late.size() - 1
                                          : random() % late.size();
    const std::function<void()> work = std::move(late[i]);
    late.erase(late.begin() + std::ptrdiff_t(i));
    work();
    return polls = true;
  }

  // Calls f for every shared array.
  template <class F> void for_each_shared(F f) {
    for (const SharedRegion& region : shared_arrays()) f(region);
    f(SharedRegion{dynamic.data() + kGuard, dynamic_bytes});
  }
  void fill_shared() {
    ASAN_UNPOISON_MEMORY_REGION(dynamic.data(), dynamic.size());
    for_each_shared([](const SharedRegion& r) {
      std::memset(r.bytes, 0xff, r.size);
      std::memset(r.bytes - kGuard, 0x5a, kGuard);
      std::memset(r.bytes + r.size, 0x5a, kGuard);
    });
    ASAN_POISON_MEMORY_REGION(dynamic.data(), kGuard);
    ASAN_POISON_MEMORY_REGION(dynamic.data() + kGuard + dynamic_bytes, kGuard);
  }
  void check_shared() {
    ASAN_UNPOISON_MEMORY_REGION(dynamic.data(), dynamic.size());
    for_each_shared([](const SharedRegion& r) {
      for (std::size_t i = 0; i < kGuard; ++i)
        if (r.bytes[-1 - std::ptrdiff_t(i)] != std::byte(0x5a) ||
            r.bytes[r.size + i] != std::byte(0x5a))
          fail("a write beside a shared array");
    });
  }

  void run(dim3 grid, dim3 block) {
    std::vector<unsigned> order(std::size_t(grid.x) * grid.y * grid.z);
    std::iota(order.begin(), order.end(), 0u);
    if (schedule == 1) std::reverse(order.begin(), order.end());
    if (schedule > 1) std::shuffle(order.begin(), order.end(), random);
    for (unsigned g : order) {
      blockIdx = {g % grid.x, g / grid.x % grid.y, g / grid.x / grid.y};
      std::ranges::fill(warps, Warp());
      for (unsigned t = 0; t < threads.size(); ++t) {
        threads[t] = {};
        threads[t].index = {t % block.x, t / block.x % block.y, t / block.x / block.y};
        threads[t].lane = int(t % 32), threads[t].warp = int(t / 32);
        ++warps[t / 32][State::fresh];
      }
      fill_shared();
      run_block();
      if (!late.empty()) fail("a block has ended before its copies");
      check_shared();
    }
  }
};

Runner* runner = nullptr;

void wait(State state, const char* operation) {
  Thread& me = *runner->current;
  runner->become(me, state), me.operation = operation;
  // Past the scheduler to the next lane, for speed.
  Thread* const next = state == State::done ? nullptr : runner->next_lane(me.warp);
  if (next) runner->go_on(*me.fiber, *next);
  else switch_fiber(*me.fiber, runner->scheduler);
}

void run_threads() {
  for (;;) {
    try {
      runner->body();
    } catch (...) {
      runner->error = std::current_exception();
      runner->current->fiber->forget_frames();
    }
    wait(State::done, "");
  }
}

}  // namespace

void fail(const std::string& what) {
  throw std::logic_error(what + ", block " + std::to_string(blockIdx.x) + ", " +
                         std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) +
                         ", thread " + std::to_string(threadIdx.x));
}

bool can_run(dim3 grid, dim3 block) {
  const auto threads = std::uint64_t(block.x) * block.y * block.z;
  return grid.x > 0 && grid.x <= INT_MAX && grid.y > 0 && grid.y <= 65535 && grid.z > 0 &&
         grid.z <= 65535 && threads > 0 && threads <= 1024;
}

void run(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body) {
  if (!can_run(grid, block) || shared_bytes > triad::cuda::shared_bytes_shown)
    throw std::logic_error("a launch that no device takes");
  const std::lock_guard lock(mutex);
  Runner own(block, shared_bytes, body);
  runner = &own, blockDim = block, gridDim = grid;
  own.run(grid, block);
}

void block_barrier() { wait(State::at_block, "__syncthreads"); }

void named_barrier(int id, int threads) {
  if (id < 0 || id > 15 || threads < 32 || threads % 32 != 0) fail("there is no such barrier");
  NamedBarrier& barrier = runner->named[id];
  if (barrier.came == 0) barrier.threads = threads;
  if (barrier.threads != threads) fail("a barrier is for as many threads as the first one says");
  const int round = barrier.round;
  if (++barrier.came == threads) ++barrier.round, barrier.came = 0, may_be_ready();
  wait_until([&] { return barrier.round != round; });
}

// Two boxes in turn: a lane that is ahead writes to the other one, and nobody is two ahead.
static std::size_t box_of(const Thread& t) {
  return std::size_t(t.warp) * 2 + std::size_t(t.letters % 2);
}
std::byte* own_letter() {
  const Thread& me = *runner->current;
  return runner->letters.data() + (box_of(me) * 32 + std::size_t(me.lane)) * 64;
}
Mailbox exchange_letters(const char* operation) {
  Thread& me = *runner->current;
  const std::size_t box = box_of(me);
  ++me.letters;
  wait(State::at_warp, operation);
  return {runner->letters.data() + box * 32 * 64, runner->present[box]};
}

SharedBytes::SharedBytes(std::byte* bytes, std::size_t size) {
  shared_arrays().push_back({bytes + kGuard, size});
  std::memset(bytes, 0x5a, kGuard + size + kGuard);
  std::memset(bytes + kGuard, 0xff, size);
}

void* dynamic_shared() { return runner->dynamic.data() + kGuard; }

void copy_later(void* shared, const void* source) {
  check_aligned(shared, 16);
  check_aligned(source, 16);
  auto copy = [=] {
    if (source) std::memcpy(shared, source, 16);
    else std::memset(shared, 0, 16);
  };
  if (schedule % 2 == 0) runner->current->copies.add(copy);
  else copy();
}

void commit_copies() { runner->current->copies.commit(); }

void wait_copies(int groups_left) { runner->current->copies.wait(groups_left); }

void wait_until(const std::function<bool()>& ready) {
  if (ready()) return;
  runner->current->poll = &ready;
  wait(State::polling, "a barrier");
}
void may_be_ready() { runner->polls = true; }
void do_late(std::function<void()> work) { runner->late.push_back(std::move(work)); }

void multiply_later(std::function<void()> product) {
  runner->current->products.add(std::move(product));
}
void commit_products() { runner->current->products.commit(); }
void wait_products(int groups_left) { runner->current->products.wait(groups_left); }

}  // namespace simt
