// Little-endian integers in byte arrays, and a reader and a writer for records made of them.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace gabion {

static_assert(std::endian::native == std::endian::little,
              "formats are little-endian, and so are hosts");

// The integer (or enumeration) at `from`, which need not be aligned.
template <class T>
requires std::integral<T> || std::is_enum_v<T> T LoadLe(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <class T>
requires std::integral<T> || std::is_enum_v<T>
void StoreLe(std::byte* to, T value) { std::memcpy(to, &value, sizeof(T)); }

inline std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads bytes from outside, front to back. The first read beyond the end fails, and so does every
// later one: they return zeros and empty spans. So a decoder reads all its fields and asks ok() or
// done() once. Borrows the bytes; what it returns points into them.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  bool ok() const { return ok_; }
  // Nothing failed and nothing is left over.
  bool done() const { return ok_ && rest_.empty(); }
  size_t remaining() const { return rest_.size(); }

  uint8_t U8() { return Integer<uint8_t>(); }
  uint16_t U16() { return Integer<uint16_t>(); }
  uint32_t U32() { return Integer<uint32_t>(); }
  uint64_t U64() { return Integer<uint64_t>(); }
  int64_t I64() { return Integer<int64_t>(); }

  // An Id or a Number: `reader.As<VolumeId>()`.
  template <class T>
  requires std::constructible_from<T, uint64_t> T As() { return T(U64()); }

  std::span<const std::byte> Bytes(size_t size);

  // A 32-bit size, then that many bytes. Fails when the size is above `size_max`.
  std::span<const std::byte> SizedBytes(uint32_t size_max);
  std::string_view SizedText(uint32_t size_max) { return AsText(SizedBytes(size_max)); }

  // Makes the reader fail, for a decoder that finds a bad value.
  void Fail();

 private:
  template <class T>
  T Integer() {
    const std::span<const std::byte> bytes = Bytes(sizeof(T));
    return bytes.empty() ? T{0} : LoadLe<T>(bytes.data());
  }

  std::span<const std::byte> rest_;
  bool ok_ = true;
};

// Writes front to back into a span, or appends to a vector. Into a span, the first write that does
// not fit fails and writes nothing, and so does every later one. Borrows its target.
class ByteWriter {
 public:
  explicit ByteWriter(std::span<std::byte> target) : target_(target) {}
  explicit ByteWriter(std::vector<std::byte>* target) : vector_(target) {}

  bool ok() const { return ok_; }
  // Bytes written by this writer.
  size_t size() const { return size_; }

  void U8(uint8_t value) { Integer(value); }
  void U16(uint16_t value) { Integer(value); }
  void U32(uint32_t value) { Integer(value); }
  void U64(uint64_t value) { Integer(value); }
  void I64(int64_t value) { Integer(value); }

  // An Id or a Number.
  template <class T>
  requires requires(const T& value) {
    { value.value() } -> std::same_as<uint64_t>;
  }
  void Of(const T& value) { U64(value.value()); }

  void Bytes(std::span<const std::byte> bytes);
  void Zeros(size_t size);

  // What ByteReader::SizedBytes reads. Fails when the size does not fit 32 bits.
  void SizedBytes(std::span<const std::byte> bytes);
  void SizedText(std::string_view text) { SizedBytes(AsBytes(text)); }

 private:
  template <class T>
  void Integer(T value) {
    if (std::byte* to = Extend(sizeof(T)); to != nullptr) StoreLe(to, value);
  }

  // Where the next `size` > 0 bytes go; null when they do not fit.
  std::byte* Extend(size_t size);

  std::span<std::byte> target_;
  std::vector<std::byte>* vector_ = nullptr;
  size_t size_ = 0;
  bool ok_ = true;
};

}  // namespace gabion
