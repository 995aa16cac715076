// The bytes of the journal (docs/journal.md): batches and seals, and what a device's content means.
// Pure functions; the journal itself is in journal.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/result.h"

namespace gabion::store::journal {

inline constexpr uint32_t kBlock = 4096;
inline constexpr uint32_t kHeaderBytes = 64;
inline constexpr uint64_t kAreasBegin = 2 * kBlock;
inline constexpr uint64_t kAreaBytesMin = 4 * kBlock;

struct Seal {
  uint64_t number = 0;
  uint64_t generation = 0;
  uint64_t durable_sequence = 0;
  uint64_t area_bytes = 0;
};

struct BatchHeader {
  uint64_t generation = 0;
  uint64_t position = 0;
  uint64_t first_sequence = 0;
  uint64_t durable_sequence = 0;
  uint32_t previous_crc = 0;
  uint32_t body_crc = 0;
  uint32_t snapshot_bytes = 0;
  uint32_t record_bytes = 0;

  uint64_t body_bytes() const { return uint64_t{snapshot_bytes} + record_bytes; }
};

// Of a batch with this body, padding included.
constexpr uint64_t BatchBytes(uint64_t body_bytes) {
  return (kHeaderBytes + body_bytes + kBlock - 1) / kBlock * kBlock;
}

bool IsZero(std::span<const std::byte> bytes);

// Fill the first kHeaderBytes of `to`. EncodeBatchHeader returns the header CRC.
void EncodeSeal(const Seal& seal, std::span<std::byte> to);
uint32_t EncodeBatchHeader(const BatchHeader& header, std::span<std::byte> to);

// Nothing when the bytes are no whole seal or header; kUnsupported when they are one of a version
// that this program does not know.
Result<std::optional<Seal>> DecodeSeal(std::span<const std::byte> block);
struct DecodedHeader {
  BatchHeader header;
  uint32_t crc = 0;
};
Result<std::optional<DecodedHeader>> DecodeBatchHeader(std::span<const std::byte> block);

// What a journal's device holds.
struct Recovered {
  uint64_t generation = 0;  // 0: nothing was ever written
  uint64_t last_sequence = 0;
  uint32_t last_crc = 0;       // header CRC of the last batch
  uint64_t append_offset = 0;  // within the area, behind the last batch
  std::vector<std::byte> snapshot;
  std::vector<std::vector<std::byte>> records;
  // Blocks (on the device) where a batch begins that was given up, or could: with a header whose
  // batch was torn, or with what is no header. They must be erased, durably, before anything is
  // written: a later batch of like content that is torn in turn could complete this one, and what
  // was only read wrong may read well the next time.
  std::vector<uint64_t> to_erase;
  // Within the area: where the last batch begins if nothing proves that it was durable; else
  // `append_offset`. It may be in a cache that lost it when a write failed, so it is written again.
  uint64_t unproven_offset = 0;
};

// The seal that counts, given both seal blocks; nothing when neither is whole.
Result<std::optional<Seal>> NewestSeal(std::span<const std::byte> blocks);

// Judges both areas. Generation g sits in area (g - 1) % 2. kCorrupt: the device had promised more
// than it holds.
Result<Recovered> Recover(const Seal& seal, std::span<const std::byte> area0,
                          std::span<const std::byte> area1);

}  // namespace gabion::store::journal
