// What the user asked for, after the command line is parsed (command_line.h) and before anything is
// done.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "core/wire/management.pb.h"

namespace gabion::cli {

enum class Output : uint8_t { kTable, kJson };

// How the MDM is found, and how answers are shown.
struct Common {
  std::vector<std::string> mdms;  // --mdm; empty: see FindEndpoints
  std::string dir;                // --dir: folder of a `gabion dev` cluster
  std::chrono::milliseconds timeout = std::chrono::seconds(10);
  Output output = Output::kTable;
};

enum class Verb : uint8_t {
  kCommand,  // `request` changes something
  kList,     // objects of one kind
  kShowDevice,
  kStatus,
  kWait,  // until everything is mirrored
  kDevUp,
  kDevStatus,
  kDevDown,
  kDevStart,
  kDevStop,
  kDevKill,
  kStoreCheck,
  kStoreDump,
};

enum class Kind : uint8_t { kSds, kPool, kDevice, kVolume, kSdc };

struct DevOptions {
  std::string dir;
  uint32_t sds_count = 3;
  uint32_t devices_per_sds = 2;
  uint64_t device_bytes = uint64_t{4} << 30;
  uint32_t sdc_count = 1;
  uint32_t slice_count = 64;
  bool delete_files = false;       // down
  std::vector<std::string> names;  // start, stop, kill
};

struct StoreOptions {
  std::string path;
  // Dump. None of them: the superblocks.
  bool superblocks = false;
  bool log = false;
  bool slices = false;
  std::string chunk;  // SLICE:VTREE:CHUNK
};

struct Invocation {
  Verb verb = Verb::kStatus;
  Kind kind = Kind::kSds;       // kList
  proto::AdminRequest request;  // kCommand
  bool slices = false;          // kStatus
  std::string name;             // kShowDevice
  Common common;
  DevOptions dev;
  StoreOptions store;
};

// Exit codes; docs/admin.md promises them.
inline constexpr int kExitOk = 0;
inline constexpr int kExitRefused = 1;  // by the cluster, or something failed
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnreachable = 3;
// Of `store check`, from harmless to hopeless.
inline constexpr int kExitStoreWorn = 10;
inline constexpr int kExitStoreDamaged = 11;
inline constexpr int kExitStoreUnusable = 12;

}  // namespace gabion::cli
