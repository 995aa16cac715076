#include "core/sds/scan_memory.h"

namespace gabion::sds {

namespace {

constexpr uint8_t kRunning = 1;
constexpr uint8_t kInSlice = 2;  // and the chunk is there

void EncodePass(const proto::ScanPass& pass, ByteWriter* writer) {
  writer->U64(pass.started_unix_ms());
  writer->U64(pass.finished_unix_ms());
  writer->U64(pass.bytes_read());
  writer->U64(pass.extents_compared());
  writer->U64(pass.blocks_damaged());
  writer->U64(pass.blocks_differing());
  writer->U64(pass.blocks_repaired());
  writer->U64(pass.extents_unresolved());
}

proto::ScanPass DecodePass(ByteReader* reader) {
  proto::ScanPass pass;
  pass.set_started_unix_ms(reader->U64());
  pass.set_finished_unix_ms(reader->U64());
  pass.set_bytes_read(reader->U64());
  pass.set_extents_compared(reader->U64());
  pass.set_blocks_damaged(reader->U64());
  pass.set_blocks_differing(reader->U64());
  pass.set_blocks_repaired(reader->U64());
  pass.set_extents_unresolved(reader->U64());
  return pass;
}

}  // namespace

void ScanMemory::Encode(ByteWriter* writer) const {
  const store::ChunkKey key = chunk.value_or(store::ChunkKey());
  writer->U8(static_cast<uint8_t>((running ? kRunning : 0) | (chunk.has_value() ? kInSlice : 0)));
  EncodePass(pass, writer);
  writer->Of(slice);
  writer->Of(key.vtree);
  writer->Of(key.version);
  writer->U32(key.chunk);
  writer->U64(ordered_rate);
  EncodePass(last, writer);
}

ScanMemory ScanMemory::Decode(ByteReader* reader) {
  ScanMemory memory;
  const uint8_t flags = reader->U8();
  if ((flags & ~(kRunning | kInSlice)) != 0) reader->Fail();
  memory.running = (flags & kRunning) != 0;
  memory.pass = DecodePass(reader);
  memory.slice = reader->As<SliceId>();
  store::ChunkKey key;
  key.vtree = reader->As<VtreeId>();
  key.version = reader->As<VolumeVersion>();
  key.chunk = reader->U32();
  if ((flags & kInSlice) != 0) memory.chunk = key;
  memory.ordered_rate = reader->U64();
  memory.last = DecodePass(reader);
  return memory;
}

}  // namespace gabion::sds
