// Packed weights of a file: there at once, and in huge pages by and by.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>

namespace lepton {

// A file's payload in memory. It begins as a mapping of the file, for which nothing is copied and no memory is taken.
// Pages of a file are small ones, as a rule; `settle` puts copies in huge pages in their place, at the same addresses.
//
// The file stays as long as it is: who cuts it ends the process.
class MappedPanels {
 public:
  // Maps `num_bytes` from `offset` on. Throws std::system_error.
  MappedPanels(int descriptor, int64_t offset, int64_t num_bytes);
  ~MappedPanels();
  MappedPanels(const MappedPanels&) = delete;
  MappedPanels& operator=(const MappedPanels&) = delete;

  const uint8_t* data() const { return data_; }
  int64_t num_bytes() const { return num_bytes_; }

  // Copies huge page after huge page in a thread of its own, until all are there or `settle` is called.
  void begin();

  // Goes on with that: calls may take as long, together, as `seconds` of all of them say. Returns whether there is
  // nothing more to do: all are there, or the system gives no more memory. Others may read meanwhile.
  bool settle(double seconds);

 private:
  bool move_next();  // false if there was nothing to do

  std::thread thread_;
  std::atomic<bool> is_interrupted_ = false;
  std::mutex mutex_;  // of what follows
  double left_s_ = 0.0;
  uint8_t* mapping_;
  int64_t mapping_bytes_, num_bytes_;
  const uint8_t* data_;
  // The whole huge pages of the mapping that are to be moved, and where copies of them are made: side by side too, so
  // that the system can join them to one piece of memory.
  uint8_t* next_;
  uint8_t* end_;
  uint8_t* staging_ = nullptr;
};

}  // namespace lepton
