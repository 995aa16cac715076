// The data path allocates nothing after start. This binary counts every use of operator new.

#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "core/base/buffer.h"
#include "core/base/bytes.h"
#include "core/base/checksum.h"
#include "core/base/fifo.h"
#include "core/base/slot_table.h"

namespace {
int allocations = 0;
}  // namespace

void* operator new(size_t size) {
  ++allocations;
  void* memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  return memory;
}
void* operator new(size_t size, const std::nothrow_t&) noexcept { return operator new(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace gabion {
namespace {

struct Operation {
  Slice payload;
  uint32_t crc = 0;
};

TEST(NoAllocation, OnAnOperationsWayThroughTheTables) {
  BufferPool pool({.bytes_max = size_t{1} << 20});
  SlotTable<Operation> in_flight(64);
  Fifo<SlotTag> queue;
  {
    const Slice warm_up = pool.Allocate(4096);
    queue.push_back(SlotTag());
    queue.clear();
  }
  const int allocations_before = allocations;
  const uint64_t buffers_before = pool.stats().heap_allocations;

  for (uint32_t i = 0; i < 1'000; ++i) {
    Slice payload = pool.Allocate(4096);
    ASSERT_FALSE(payload.empty());
    ByteWriter writer(payload.mutable_span());
    writer.U32(i);
    const uint32_t crc = Crc32c(payload.span());
    const std::optional<SlotTag> tag =
        in_flight.Insert({.payload = std::move(payload), .crc = crc});
    ASSERT_TRUE(tag.has_value());
    queue.push_back(*tag);
    const std::optional<Operation> done = in_flight.Take(queue.pop_front());
    ASSERT_TRUE(done.has_value());
    ASSERT_EQ(ByteReader(done->payload.span()).U32(), i);
  }

  EXPECT_EQ(allocations, allocations_before);
  EXPECT_EQ(pool.stats().heap_allocations, buffers_before);
}

}  // namespace
}  // namespace gabion
