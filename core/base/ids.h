// Strong 64-bit identifiers and numbers: two kinds never mix, and none mixes with an integer.
//
// Both templates are trivially copyable, standard-layout, 8 bytes, aligned to 8, so they may sit in
// wire and disk structs. Such structs keep every field at its natural alignment: the compilers
// refuse
// __attribute__((packed)) around a class with private members.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

namespace gabion {

// The name of one thing. Zero names nothing. Equality and order only; no arithmetic.
template <class Tag>
class Id {
 public:
  constexpr Id() = default;
  constexpr explicit Id(uint64_t value) : value_(value) {}

  constexpr uint64_t value() const { return value_; }
  constexpr bool valid() const { return value_ != 0; }

  friend constexpr auto operator<=>(const Id&, const Id&) = default;

  template <class H>
  friend H AbslHashValue(H h, const Id& id) {
    return H::combine(std::move(h), id.value_);
  }

 private:
  uint64_t value_ = 0;
};

// A counter that only grows. Zero is "before the first".
template <class Tag>
class Number {
 public:
  constexpr Number() = default;
  constexpr explicit Number(uint64_t value) : value_(value) {}

  constexpr uint64_t value() const { return value_; }
  constexpr bool valid() const { return value_ != 0; }
  constexpr Number next() const { return Number(value_ + 1); }

  friend constexpr auto operator<=>(const Number&, const Number&) = default;

  template <class H>
  friend H AbslHashValue(H h, const Number& number) {
    return H::combine(std::move(h), number.value_);
  }

 private:
  uint64_t value_ = 0;
};

using ClusterId = Id<struct ClusterIdTag>;
using SdsId = Id<struct SdsIdTag>;
using SdcId = Id<struct SdcIdTag>;
using DeviceId = Id<struct DeviceIdTag>;
using PoolId = Id<struct PoolIdTag>;
using FaultSetId = Id<struct FaultSetIdTag>;
using ProtectionDomainId = Id<struct ProtectionDomainIdTag>;
using VolumeId = Id<struct VolumeIdTag>;
using VtreeId = Id<struct VtreeIdTag>;
using SliceId = Id<struct SliceIdTag>;
using ConnId = Id<struct ConnIdTag>;

using Epoch = Number<struct EpochTag>;
using Seq = Number<struct SeqTag>;
using Reign = Number<struct ReignTag>;
using Incarnation = Number<struct IncarnationTag>;
using ConnectionNumber = Number<struct ConnectionNumberTag>;
using RequestId = Number<struct RequestIdTag>;
using SnapNumber = Number<struct SnapNumberTag>;
using VolumeVersion = Number<struct VolumeVersionTag>;
using ConfigVersion = Number<struct ConfigVersionTag>;

// The place of an entry in its slice's history. Ordered by epoch first: every entry of a later
// epoch follows every entry of an earlier one.
struct EntryId {
  Epoch epoch;
  Seq seq;

  friend constexpr auto operator<=>(const EntryId&, const EntryId&) = default;

  template <class H>
  friend H AbslHashValue(H h, const EntryId& id) {
    return H::combine(std::move(h), id.epoch, id.seq);
  }
};

static_assert(sizeof(VolumeId) == 8 && alignof(VolumeId) == 8);
static_assert(std::is_trivially_copyable_v<VolumeId> && std::is_standard_layout_v<VolumeId>);
static_assert(sizeof(Epoch) == 8 && alignof(Epoch) == 8);
static_assert(std::is_trivially_copyable_v<Epoch> && std::is_standard_layout_v<Epoch>);
static_assert(sizeof(EntryId) == 16 && std::is_trivially_copyable_v<EntryId>);

// Ids print as 16 hexadecimal digits, numbers in decimal, entries as "epoch.seq".
std::string HexId(uint64_t value);

template <class Tag>
std::string ToString(Id<Tag> id) {
  return HexId(id.value());
}

template <class Tag>
std::string ToString(Number<Tag> number) {
  return std::to_string(number.value());
}

std::string ToString(EntryId id);

}  // namespace gabion
