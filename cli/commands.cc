#include "cli/commands.h"

#include <cstdio>
#include <optional>
#include <thread>

#include "cli/endpoints.h"
#include "cli/output.h"
#include "core/base/check.h"

namespace gabion::cli {

namespace {

using std::chrono::steady_clock;

void Print(const std::string& text) { std::fputs(text.c_str(), stdout); }

std::optional<MdmClient::Options> ClientOptions(const Common& common, int& exit_code) {
  Result<std::vector<std::string>> endpoints = FindEndpoints(common);
  if (!endpoints) {
    PrintError(endpoints.error().message);
    exit_code = ExitCodeOf(endpoints.error());
    return std::nullopt;
  }
  const double seconds = static_cast<double>(common.timeout.count()) / 1000;
  return MdmClient::Options{.endpoints = std::move(*endpoints),
                            .timeout = common.timeout,
                            .on_waiting = [seconds](const std::string& why) {
                              std::fprintf(stderr, "gabion: %s; trying for up to %.3g s\n",
                                           why.c_str(), seconds);
                            }};
}

int Fail(const Error& error) {
  PrintError(error.message);
  return ExitCodeOf(error);
}

// A command without a pool means the only one.
Result<void> FillInPool(MdmClient& client, std::string* pool) {
  if (!pool->empty()) return {};
  const Result<proto::ClusterStatus> status = AskStatus(client, false);
  if (!status) return tl::unexpected(status.error());
  if (status->pools_size() == 1) {
    *pool = status->pools(0).name();
    return {};
  }
  if (status->pools_size() == 0) {
    return Err(ErrorCode::kConflict, "there is no pool yet; add one: gabion pool add NAME");
  }
  std::string names;
  for (const proto::Pool& found : status->pools()) {
    names += (names.empty() ? "" : ", ") + found.name();
  }
  return Err(ErrorCode::kConflict, "there are several pools (%s); choose one with --pool",
             names.c_str());
}

}  // namespace

void PrintError(const std::string& message) {
  std::fflush(stdout);
  std::fprintf(stderr, "gabion: %s\n", message.c_str());
}

int ExitCodeOf(const Error& error) {
  switch (error.code) {
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimeout:
    case ErrorCode::kUnsupported:
    case ErrorCode::kCorrupt:
      return kExitUnreachable;
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kNotFound:
      return kExitUsage;
    case ErrorCode::kExists:
    case ErrorCode::kPermission:
    case ErrorCode::kLimit:
    case ErrorCode::kNoSpace:
    case ErrorCode::kConflict:
    case ErrorCode::kFenced:
    case ErrorCode::kIoError:
      return kExitRefused;
  }
  UNREACHABLE("an error code without an exit code");
}

Result<proto::ClusterStatus> AskStatus(MdmClient& client, bool slices) {
  proto::AdminRequest request;
  request.mutable_status()->set_slices(slices);
  Result<proto::AdminReply> reply = client.Call(std::move(request));
  if (!reply) return tl::unexpected(reply.error());
  if (reply->code() != proto::AdminReply::OK) {
    return Err(ErrorCode::kConflict, "%s", reply->error().c_str());
  }
  return std::move(*reply->mutable_status());
}

int RunCommand(const Common& common, proto::AdminRequest request) {
  int exit_code = kExitOk;
  const auto options = ClientOptions(common, exit_code);
  if (!options) return exit_code;
  MdmClient client(*options);
  std::string* pool = request.has_volume_create() ? request.mutable_volume_create()->mutable_pool()
                      : request.has_device_add()  ? request.mutable_device_add()->mutable_pool()
                                                  : nullptr;
  if (pool != nullptr) {
    if (auto ok = FillInPool(client, pool); !ok) return Fail(ok.error());
  }
  const Result<proto::AdminReply> reply = client.Call(request);
  if (!reply) return Fail(reply.error());
  if (common.output == Output::kJson) Print(ToJson(*reply));
  if (reply->code() != proto::AdminReply::OK) {
    PrintError(reply->error());
    return kExitRefused;
  }
  if (common.output == Output::kTable) Print(DoneText(request, *reply));
  return kExitOk;
}

int RunList(const Common& common, Kind kind) {
  int exit_code = kExitOk;
  const auto options = ClientOptions(common, exit_code);
  if (!options) return exit_code;
  MdmClient client(*options);
  const Result<proto::ClusterStatus> status = AskStatus(client, false);
  if (!status) return Fail(status.error());
  Print(common.output == Output::kJson ? ToJson(Filter(*status, kind)) : ListText(*status, kind));
  return kExitOk;
}

int RunShowDevice(const Common& common, const std::string& id) {
  int exit_code = kExitOk;
  const auto options = ClientOptions(common, exit_code);
  if (!options) return exit_code;
  MdmClient client(*options);
  const Result<proto::ClusterStatus> status = AskStatus(client, false);
  if (!status) return Fail(status.error());
  const std::string text = DeviceText(*status, id);
  if (text.empty()) {
    PrintError("no device \"" + id + "\": `gabion device list` shows what there is");
    return kExitRefused;
  }
  if (common.output == Output::kTable) {
    Print(text);
    return kExitOk;
  }
  for (const proto::Device& device : status->devices()) {
    if (std::to_string(device.id()) == id) Print(ToJson(device));
  }
  return kExitOk;
}

int RunStatus(const Common& common, bool slices) {
  int exit_code = kExitOk;
  const auto options = ClientOptions(common, exit_code);
  if (!options) return exit_code;
  MdmClient client(*options);
  const Result<proto::ClusterStatus> status = AskStatus(client, slices);
  if (!status) return Fail(status.error());
  Print(common.output == Output::kJson ? ToJson(*status) : StatusText(*status));
  return kExitOk;
}

int RunWait(const Common& common) {
  const auto deadline = steady_clock::now() + common.timeout;
  int exit_code = kExitOk;
  const auto options = ClientOptions(common, exit_code);
  if (!options) return exit_code;
  MdmClient client(*options);
  std::string told;
  while (true) {
    const Result<proto::ClusterStatus> status = AskStatus(client, false);
    if (!status) return Fail(status.error());
    if (status->slices_degraded() == 0 && status->slices_unavailable() == 0) {
      Print(common.output == Output::kJson ? ToJson(*status) : SliceSummary(*status) + "\n");
      return kExitOk;
    }
    const std::string summary = SliceSummary(*status);
    if (steady_clock::now() >= deadline) {
      PrintError("still not mirrored after " + std::to_string(common.timeout.count() / 1000) +
                 " s: " + summary + "; wait longer with --timeout, or see gabion status");
      return kExitRefused;
    }
    if (summary != told) std::fprintf(stderr, "%s\n", summary.c_str());
    told = summary;
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
}

}  // namespace gabion::cli
