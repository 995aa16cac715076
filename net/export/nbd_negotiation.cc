// The first part of a connection: options, until an export is chosen.
#include <cerrno>

#include "core/base/check.h"
#include "net/export/nbd_protocol.h"
#include "net/export/nbd_session.h"

namespace gabion::nbd {

void NbdSession::SendGreeting() {
  Send(BeWriter<18>().U64(kGreetingMagic).U64(kOptionMagic).U16(kFixedNewstyle | kNoZeroes).span());
}

bool NbdSession::OnClientFlags() {
  if (Buffered().size() < sizeof(uint32_t)) return false;
  const auto flags = LoadBe<uint32_t>(Buffered().data());
  Consume(sizeof(uint32_t));
  if ((flags & ~uint32_t{kFixedNewstyle | kNoZeroes}) != 0) {
    Fail("the client set flags that this server did not offer");
    return false;
  }
  fixed_newstyle_ = (flags & kFixedNewstyle) != 0;
  no_zeroes_ = (flags & kNoZeroes) != 0;
  phase_ = Phase::kOptionHeader;
  return true;
}

bool NbdSession::OnOptionHeader() {
  if (Buffered().size() < kOptionHeaderBytes) return false;
  BeReader reader(Buffered().first(kOptionHeaderBytes));
  const uint64_t magic = reader.U64();
  option_ = reader.U32();
  option_size_ = reader.U32();
  Consume(kOptionHeaderBytes);
  if (magic != kOptionMagic) {
    Fail("not the NBD protocol: an option without its magic number");
    return false;
  }
  if (option_size_ > kOptionBytesMax) {
    Fail("an option of " + std::to_string(option_size_) + " bytes, limit " +
         std::to_string(kOptionBytesMax));
    return false;
  }
  if (++options_seen_ > kOptionsMax) {
    Fail("more than " + std::to_string(kOptionsMax) + " options");
    return false;
  }
  if (!fixed_newstyle_ && option_ != kOptExportName) {
    Fail("the client negotiates without the fixed newstyle");
    return false;
  }
  phase_ = Phase::kOptionBody;
  return true;
}

bool NbdSession::OnOptionBody() {
  if (Buffered().size() < option_size_) return false;
  phase_ = Phase::kOptionHeader;
  const std::span<const std::byte> body = Buffered().first(option_size_);
  Consume(option_size_);  // the bytes stay where they are until more is received
  OnOption(body);
  return true;
}

void NbdSession::OnOption(std::span<const std::byte> body) {
  switch (option_) {
    case kOptExportName: {
      const std::string_view name(reinterpret_cast<const char*>(body.data()), body.size());
      if (name.size() > kNameBytesMax) return Fail("an export name that is too long");
      return Attach(name);
    }
    case kOptAbort:
      ReplyToOption(kRepAck);
      phase_ = Phase::kEnding;
      return;
    case kOptList:
      if (!body.empty()) return ReplyToOption(kRepErrInvalid);
      if (options_.budget->available == 0) return ReplyToOption(kRepErrPolicy, {}, "busy");
      --options_.budget->available;
      control_open_ = true;
      phase_ = Phase::kAwaitingRole;
      return IssueControl(UserOp::kList, kListTag, "");
    case kOptInfo:
    case kOptGo:
      return OnExportOption(body);
    case kOptStructuredReply:
      if (!body.empty()) return ReplyToOption(kRepErrInvalid);
      structured_ = true;
      return ReplyToOption(kRepAck);
    case kOptListMetaContext:
    case kOptSetMetaContext:
      return OnMetaContextOption(body);
    default:
      return ReplyToOption(kRepErrUnsupported);
  }
}

void NbdSession::OnExportOption(std::span<const std::byte> body) {
  BeReader reader(body);
  const std::string_view name = reader.Text();
  const uint16_t count = reader.U16();
  // Which details the client asks for does not matter: it gets all there are.
  for (uint16_t i = 0; i < count && reader.ok(); ++i) reader.U16();
  if (!reader.done()) return ReplyToOption(kRepErrInvalid);
  if (name.size() > kNameBytesMax) return ReplyToOption(kRepErrTooBig);
  Attach(name);
}

void NbdSession::OnMetaContextOption(std::span<const std::byte> body) {
  const bool set = option_ == kOptSetMetaContext;
  if (set) meta_allocation_ = false;  // a new set replaces the old one, also when it fails
  BeReader reader(body);
  const std::string_view name = reader.Text();
  const uint32_t count = reader.U32();
  bool allocation = !set && count == 0;
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    const std::string_view query = reader.Text();
    allocation = allocation || query == kAllocationContext || (!set && query == "base:");
  }
  if (!reader.done() || !structured_) return ReplyToOption(kRepErrInvalid);
  if (name.size() > kNameBytesMax) return ReplyToOption(kRepErrTooBig);
  if (allocation) {
    ReplyToOption(kRepMetaContext, BeWriter<4>().U32(set ? kAllocationContextId : 0).span(),
                  kAllocationContext);
  }
  ReplyToOption(kRepAck);
  if (set) {
    meta_allocation_ = allocation;
    meta_export_ = name;
  }
}

void NbdSession::Attach(std::string_view name) {
  export_name_ = name;
  std::string volume(name.empty() ? std::string_view(options_.default_export) : name);
  // Without a name there is nothing to ask for: an attach with neither name nor id means nothing.
  if (volume.empty() || options_.budget->available == 0) {
    const bool busy = !volume.empty();
    if (option_ == kOptExportName) return Fail(busy ? "too many requests" : "no default export");
    return busy ? ReplyToOption(kRepErrPolicy, {}, "too many requests; try again")
                : ReplyToOption(kRepErrUnknown, {}, "there is no default export; name a volume");
  }
  --options_.budget->available;
  control_open_ = true;
  phase_ = Phase::kAwaitingRole;
  IssueControl(UserOp::kAttach, kAttachTag, std::move(volume));
}

void NbdSession::OnAttached(const UserReplyEffect& reply) {
  const bool present = phase_ == Phase::kAwaitingRole && !failed_;
  if (reply.error != 0) {
    if (!present) return;
    phase_ = Phase::kOptionHeader;
    if (option_ == kOptExportName) return Fail("no volume \"" + export_name_ + "\"");
    return reply.error == ESHUTDOWN
               ? ReplyToOption(kRepErrShutdown)
               : ReplyToOption(kRepErrUnknown, {}, "no such volume is mapped to this client");
  }
  if (!present) return Detach(reply.volume);  // nobody waits for it any more
  size_bytes_ = reply.size_bytes;
  read_only_ = reply.read_only || options_.read_only;
  SendExportInfo();
  if (option_ == kOptInfo) {
    phase_ = Phase::kOptionHeader;
    return Detach(reply.volume);
  }
  volume_ = reply.volume;
  attached_ = true;
  meta_allocation_ = meta_allocation_ && meta_export_ == export_name_;
  phase_ = Phase::kCommandHeader;
}

void NbdSession::SendExportInfo() {
  if (option_ == kOptExportName) {
    Send(BeWriter<10>().U64(size_bytes_).U16(TransmissionFlags()).span());
    const std::array<std::byte, 124> zeroes{};
    if (!no_zeroes_) Send(zeroes);
    return;
  }
  ReplyToOption(kRepInfo,
                BeWriter<12>().U16(kInfoExport).U64(size_bytes_).U16(TransmissionFlags()).span());
  ReplyToOption(kRepInfo, BeWriter<14>()
                              .U16(kInfoBlockSize)
                              .U32(kBlockBytesMin)
                              .U32(kBlockBytesPreferred)
                              .U32(kPayloadBytesMax)
                              .span());
  ReplyToOption(kRepAck);
}

uint16_t NbdSession::TransmissionFlags() const {
  uint16_t flags = kHasFlags | kSendFlush | kSendFua | kCanMultiConn | kSendCache;
  if (read_only_) {
    flags |= kReadOnly;
  } else {
    flags |= kSendTrim | kSendWriteZeroes;
  }
  if (structured_) flags |= kSendDf;
  return flags;
}

void NbdSession::OnListed(const UserReplyEffect& reply) {
  if (phase_ != Phase::kAwaitingRole || failed_) return;
  phase_ = Phase::kOptionHeader;
  if (reply.error != 0) {
    return ReplyToOption(reply.error == ESHUTDOWN ? kRepErrShutdown : kRepErrPolicy);
  }
  std::string_view names(reinterpret_cast<const char*>(reply.payload.data()), reply.payload.size());
  while (!names.empty()) {
    const std::string_view name = names.substr(0, names.find('\n'));
    names.remove_prefix(std::min(names.size(), name.size() + 1));
    ReplyToOption(kRepServer, BeWriter<4>().U32(static_cast<uint32_t>(name.size())).span(), name);
  }
  ReplyToOption(kRepAck);
}

void NbdSession::ReplyToOption(uint32_t type, std::span<const std::byte> head,
                               std::string_view text) {
  Send(BeWriter<20>()
           .U64(kOptionReplyMagic)
           .U32(option_)
           .U32(type)
           .U32(static_cast<uint32_t>(head.size() + text.size()))
           .span());
  Send(head);
  Send(std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace gabion::nbd
