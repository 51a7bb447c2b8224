// The memory of the simulated devices: an arena for each.
//
// Fresh blocks are full of NaN. So are the gaps between them: what has been written there ends the
// program when a block is given back, and under AddressSanitizer at once. There, too, an arena can
// be read and written only while its device works. At all other times it is protected: where the
// host uses a pointer of the device, or one device that of another, it is a crash.
#pragma once

#include <map>
#include <mutex>

#include <simulated_device.h>

namespace simt {

class Arena {
 public:
  static Arena& of(int device);

  bool has(const void* address) const;
  void* take(std::size_t bytes);       // null where no free range is so long
  bool is_block(const void* address);  // one that was taken, its first byte
  void give_back(void* block);
  std::size_t blocks() const { return blocks_.size(); }  // that were taken

  // While one lives, the memory can be read and written.
  class Access {
   public:
    explicit Access(Arena& arena) : arena_(arena) { arena_.open(+1); }
    ~Access() { arena_.open(-1); }
    Access(const Access&) = delete;

   private:
    Arena& arena_;
  };

 private:
  struct Block {
    std::size_t size, bytes;  // with what lies behind it, and its own
  };

  Arena();
  void open(int more);
  void protect(std::size_t first, std::size_t bytes, int how) const;  // whole pages

  std::byte* base_;
  std::recursive_mutex mutex_;               // of what follows
  std::map<std::size_t, std::size_t> free_;  // sizes by first byte
  std::map<std::size_t, Block> blocks_;      // likewise
  std::size_t used_ = 0;                     // no block has reached beyond
  int accesses_ = 0;
};

}  // namespace simt
