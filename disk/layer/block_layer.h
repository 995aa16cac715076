// One block device as whoever drives it sees it: requests in, completions out. Layers stack, each
// over the one below it, and change or watch what passes: that is how one store meets devices that
// lose what was not flushed, or seek, or only count.
//
// One thread each. Tags are the user's and need not differ between requests on their way.
#pragma once

#include <span>
#include <vector>

#include "core/base/buffer.h"
#include "core/base/time.h"
#include "core/role/effects.h"
#include "core/role/event.h"

namespace gabion::disk {

class BlockLayer {
 public:
  virtual ~BlockLayer() = default;

  virtual DeviceInfo info() const = 0;
  // `effect.device` and the range of slices in `effect` are not looked at. `length_bytes` is the
  // size of all slices, or of what is discarded.
  virtual void Queue(const DiskEffect& effect, std::span<const Slice> slices) = 0;
  // Once for a burst of requests.
  virtual void Submit() = 0;
  // Appends completions.
  virtual void Collect(std::vector<DiskDoneEvent>& done) = 0;
  // Until Collect may have something, at most `limit`.
  virtual void Wait(Duration limit) = 0;
};

// Passes everything on: what a layer does not override.
class PassingLayer : public BlockLayer {
 public:
  explicit PassingLayer(BlockLayer* below) : below_(*below) {}

  DeviceInfo info() const override { return below_.info(); }
  void Queue(const DiskEffect& effect, std::span<const Slice> slices) override {
    below_.Queue(effect, slices);
  }
  void Submit() override { below_.Submit(); }
  void Collect(std::vector<DiskDoneEvent>& done) override { below_.Collect(done); }
  void Wait(Duration limit) override { below_.Wait(limit); }

 protected:
  BlockLayer& below() { return below_; }
  const BlockLayer& below() const { return below_; }

 private:
  BlockLayer& below_;
};

}  // namespace gabion::disk
