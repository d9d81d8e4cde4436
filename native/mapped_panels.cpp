#include "mapped_panels.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>

#include "huge_page.h"

namespace lepton {

namespace {

uint8_t* round_up(uint8_t* p) {
  return reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(p) + kHugePage - 1) / kHugePage * kHugePage);
}

uint8_t* round_down(uint8_t* p) {
  return reinterpret_cast<uint8_t*>(reinterpret_cast<uintptr_t>(p) / kHugePage * kHugePage);
}

// Addresses for copies of so many bytes, at a huge page's boundary; null if there are none. Memory is taken when they
// are written.
uint8_t* reserve(int64_t num_bytes) {
  void* p =
      mmap(nullptr, num_bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  uint8_t* const begin = static_cast<uint8_t*>(p);
  uint8_t* const aligned = round_up(begin);
  if (aligned > begin) munmap(begin, aligned - begin);
  munmap(aligned + num_bytes, kHugePage - (aligned - begin));
  madvise(aligned, num_bytes, MADV_HUGEPAGE);  // where there are none, the pages are small
  return aligned;
}

}  // namespace

MappedPanels::MappedPanels(int descriptor, int64_t offset, int64_t num_bytes) : num_bytes_(num_bytes) {
  const int64_t before = offset % sysconf(_SC_PAGESIZE);  // what is mapped begins with a page
  mapping_bytes_ = before + num_bytes;
  // All of it is read in every step: the page tables are filled at once, and the file is read if it has to be.
  void* p = mmap(nullptr, mapping_bytes_, PROT_READ, MAP_PRIVATE | MAP_POPULATE, descriptor, offset - before);
  if (p == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "packed weights cannot be mapped");
  mapping_ = static_cast<uint8_t*>(p);
  data_ = mapping_ + before;
  next_ = round_up(mapping_);
  end_ = std::max(next_, round_down(mapping_ + mapping_bytes_));
}

MappedPanels::~MappedPanels() {
  is_interrupted_ = true;
  if (thread_.joinable()) thread_.join();
  munmap(mapping_, mapping_bytes_);
  if (staging_) munmap(staging_, end_ - next_);
}

void MappedPanels::begin() {
  thread_ = std::thread([this] {
    for (bool moves = true; moves && !is_interrupted_;) {
      const std::lock_guard lock(mutex_);
      moves = move_next();
    }
  });
}

bool MappedPanels::settle(double seconds) {
  is_interrupted_ = true;
  const std::lock_guard lock(mutex_);
  left_s_ += seconds;
  while (left_s_ > 0.0) {
    const auto begin = std::chrono::steady_clock::now();
    if (!move_next()) return true;
    left_s_ -= std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  return next_ == end_;
}

bool MappedPanels::move_next() {
  if (next_ == end_) return false;
  if (!staging_) staging_ = reserve(end_ - next_);
  if (!staging_) return false;
  std::memcpy(staging_, next_, kHugePage);
  // A reader finds the file's page or the copy, and nothing else.
  if (mremap(staging_, kHugePage, kHugePage, MREMAP_MAYMOVE | MREMAP_FIXED, next_) == MAP_FAILED) return false;
  next_ += kHugePage;
  staging_ += kHugePage;
  return true;
}

}  // namespace lepton
