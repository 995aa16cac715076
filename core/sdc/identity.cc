#include "core/sdc/identity.h"

#include <utility>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/check.h"

namespace gabion::sdc {
namespace {

// Record and snapshot alike: format, then cluster, id, incarnation.
constexpr uint64_t kFormat = 1;
constexpr uint64_t kDiskTagBase = 0;

}  // namespace

Identity::Identity(BufferPool* pool)
    : journal_({.device = DeviceIndex::kState, .pool = pool, .disk_tag_base = kDiskTagBase}) {}

void Identity::Open(const DeviceInfo& info, Effects& effects) {
  CHECK(state_ == State::kOpening);
  journal_.Open(info, effects);
  if (journal_.state() == store::Journal::State::kFailed) Fail(journal_.error());
}

bool Identity::OnDiskDone(const DiskDoneEvent& event, Effects& effects) {
  bool handled = false;
  const store::Journal::Progress progress = journal_.OnDiskDone(event, effects, &handled);
  if (!handled || state_ == State::kFailed) return false;
  if (journal_.state() == store::Journal::State::kFailed) {
    Fail(journal_.error());
    return true;
  }
  if (state_ == State::kOpening && progress.opened) {
    bool readable = journal_.snapshot().empty() || Decode(journal_.snapshot());
    for (const std::vector<std::byte>& record : journal_.records()) {
      readable = readable && Decode(record);
    }
    journal_.ForgetRecovered();
    if (!readable) {
      Fail("the state holds records of another format");
      return true;
    }
    incarnation_ = incarnation_.next();
    state_ = State::kRaising;
    Record(effects);
    return false;
  }
  if (state_ == State::kRaising && journal_.durable_sequence() >= raising_sequence_) {
    state_ = State::kReady;
    return true;
  }
  return false;
}

void Identity::Learn(ClusterId cluster, SdcId id, Effects& effects) {
  CHECK(state_ == State::kReady);
  if (cluster == cluster_ && id == id_) return;
  cluster_ = cluster;
  id_ = id;
  Record(effects);
}

void Identity::Fail(std::string error) {
  state_ = State::kFailed;
  error_ = std::move(error);
}

void Identity::Record(Effects& effects) {
  std::vector<std::byte> bytes;
  ByteWriter writer(&bytes);
  writer.U64(kFormat);
  writer.Of(cluster_);
  writer.Of(id_);
  writer.Of(incarnation_);
  const uint64_t sequence = journal_.Append(bytes, effects);
  if (state_ == State::kRaising) raising_sequence_ = sequence;
  if (journal_.needs_snapshot()) journal_.WriteSnapshot(bytes, effects);
}

bool Identity::Decode(std::span<const std::byte> bytes) {
  ByteReader reader(bytes);
  const uint64_t format = reader.U64();
  cluster_ = reader.As<ClusterId>();
  id_ = reader.As<SdcId>();
  incarnation_ = reader.As<Incarnation>();
  return reader.done() && format == kFormat;
}

}  // namespace gabion::sdc
