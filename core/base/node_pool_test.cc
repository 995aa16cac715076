#include "core/base/node_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/inlined_vector.h"
#include "core/base/random.h"

namespace gabion {
namespace {

TEST(NodePool, NodesDoNotOverlapAndAreUsedAgain) {
  struct Node {
    unsigned char* memory;
    size_t bytes;
    unsigned char mark;
  };
  RandomStream random(1, 0, 0);
  NodePool pool;
  std::vector<Node> nodes;
  size_t reserved = 0;
  for (int i = 0; i < 30'000; ++i) {
    if (nodes.size() < 300 && random.Chance(1, 2)) {
      const size_t bytes = random.Range(1, 2 * NodePool::kNodeBytesMax);
      auto* memory = static_cast<unsigned char*>(pool.Allocate(bytes));
      ASSERT_EQ(reinterpret_cast<uintptr_t>(memory) % 16, 0u);
      const auto mark = static_cast<unsigned char>(i);
      std::memset(memory, mark, bytes);
      nodes.push_back({memory, bytes, mark});
    } else if (!nodes.empty()) {
      std::swap(nodes[random.Below(nodes.size())], nodes.back());
      const Node node = nodes.back();
      nodes.pop_back();
      for (size_t at = 0; at < node.bytes; ++at) ASSERT_EQ(node.memory[at], node.mark);
      pool.Free(node.memory, node.bytes);
    }
    if (i == 25'000) reserved = pool.bytes_reserved();
  }
  EXPECT_LE(pool.bytes_reserved(), reserved + (256 << 10)) << "it grows without end";
  for (const Node& node : nodes) pool.Free(node.memory, node.bytes);
  EXPECT_EQ(pool.bytes_in_use(), 0u);
}

TEST(NodePool, ServesContainers) {
  struct Value {
    explicit Value(NodePool* pool) : numbers(PoolAllocator<uint32_t>(pool)) {}
    absl::InlinedVector<uint32_t, 2, PoolAllocator<uint32_t>> numbers;
  };
  using Map =
      absl::btree_map<int, Value, std::less<int>, PoolAllocator<std::pair<const int, Value>>>;
  RandomStream random(2, 0, 0);
  NodePool pool;
  {
    Map map{PoolAllocator<char>(&pool)};
    std::map<int, std::vector<uint32_t>> model;
    for (int i = 0; i < 20'000; ++i) {
      const auto key = static_cast<int>(random.Below(200));
      if (random.Chance(1, 2)) {
        map.erase(key);
        model.erase(key);
        continue;
      }
      const std::vector<uint32_t> numbers(random.Below(100), static_cast<uint32_t>(i));
      Value& value = map.try_emplace(key, &pool).first->second;
      value.numbers.assign(numbers.begin(), numbers.end());
      model[key] = numbers;
    }
    ASSERT_EQ(map.size(), model.size());
    for (const auto& [key, value] : map) {
      ASSERT_EQ(std::vector<uint32_t>(value.numbers.begin(), value.numbers.end()), model[key]);
    }
    EXPECT_GT(pool.bytes_in_use(), 0u);
    const size_t reserved = pool.bytes_reserved();
    Map other{PoolAllocator<char>(&pool)};
    other = std::move(map);
    EXPECT_EQ(other.size(), model.size());
    EXPECT_EQ(pool.bytes_reserved(), reserved);
  }
  EXPECT_EQ(pool.bytes_in_use(), 0u);
}

TEST(NodePool, DestroysWhatItMade) {
  NodePool pool;
  {
    const PoolPtr<std::string> text = MakePooled<std::string>(&pool, 100, 'x');
    EXPECT_EQ(text->size(), 100u);
  }
  EXPECT_EQ(pool.bytes_in_use(), 0u);
}

TEST(NodePoolDeathTest, DoesNotGoBeforeItsNodes) {
  EXPECT_DEATH(
      {
        NodePool pool;
        (void)pool.Allocate(8);
      },
      "outlive");
}

}  // namespace
}  // namespace gabion
