// Options: from the greeting to a chosen export.
#include "net/export/nbd_test_client.h"

namespace gabion::nbd {
namespace {

TEST_F(Nbd, GreetsWithTheFixedNewstyle) {
  const Bytes greeting = Drain();
  BeReader reader(greeting);
  EXPECT_EQ(reader.U64(), kGreetingMagic);
  EXPECT_EQ(reader.U64(), kOptionMagic);
  EXPECT_EQ(reader.U16(), kFixedNewstyle | kNoZeroes);
  EXPECT_TRUE(reader.done());
}

TEST_F(Nbd, GoAttachesTheVolumeAndTellsSizeFlagsAndBlockSizes) {
  Greet();
  FeedAll(Option(kOptGo, ExportBody("vol")));
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].op, UserOp::kAttach);
  EXPECT_EQ(requests[0].name, "vol");
  EXPECT_TRUE(session->ReceiveInto().empty()) << "nothing is taken while the role decides";
  Answer();
  Bytes out = Drain();
  Bytes body;
  EXPECT_EQ(TakeOptionReply(&out, &body), kRepInfo);
  BeReader info(body);
  EXPECT_EQ(info.U16(), kInfoExport);
  EXPECT_EQ(info.U64(), disk.size());
  EXPECT_EQ(info.U16(), kHasFlags | kSendFlush | kSendFua | kSendTrim | kSendWriteZeroes |
                            kCanMultiConn | kSendCache);
  EXPECT_EQ(TakeOptionReply(&out, &body), kRepInfo);
  BeReader sizes(body);
  EXPECT_EQ(sizes.U16(), kInfoBlockSize);
  EXPECT_EQ(sizes.U32(), 512u);
  EXPECT_EQ(sizes.U32(), 4096u);
  EXPECT_EQ(sizes.U32(), 32u << 20);
  EXPECT_EQ(TakeOptionReply(&out), kRepAck);
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(attached, 1);
}

TEST_F(Nbd, InfoGivesTheVolumeBack) {
  Greet();
  FeedAll(Option(kOptInfo, ExportBody("vol")));
  Answer();
  Bytes out = Drain();
  EXPECT_EQ(TakeOptionReply(&out), kRepInfo);
  AnswerAll();
  EXPECT_EQ(attached, 0);
  FeedAll(Option(kOptAbort));
  EXPECT_FALSE(session->wants_close()) << "the answer is not sent yet";
  Drain();
  EXPECT_TRUE(session->wants_close());
}

TEST_F(Nbd, AnUnknownExportIsRefusedAndTheTalkGoesOn) {
  Greet();
  FeedAll(Option(kOptGo, ExportBody("none")));
  Answer();
  Bytes out = Drain();
  EXPECT_EQ(TakeOptionReply(&out), kRepErrUnknown);
  FeedAll(Option(kOptGo, ExportBody("")));
  out = Drain();
  EXPECT_EQ(TakeOptionReply(&out), kRepErrUnknown);
  FeedAll(Option(kOptGo, ExportBody("vol")));
  Answer();
  out = Drain();
  EXPECT_EQ(TakeOptionReply(&out), kRepInfo);
}

TEST_F(Nbd, TheEmptyNameMeansTheDefaultExport) {
  Connect({.default_export = "vol"});
  Greet();
  FeedAll(Option(kOptGo, ExportBody("")));
  Answer();
  Bytes out = Drain();
  EXPECT_EQ(TakeOptionReply(&out), kRepInfo);
}

TEST_F(Nbd, ListNamesTheVolumes) {
  Greet();
  FeedAll(Option(kOptList));
  Answer();
  Bytes out = Drain();
  for (std::string_view name : {"vol", "other"}) {
    Bytes body;
    EXPECT_EQ(TakeOptionReply(&out, &body), kRepServer);
    BeReader reader(body);
    EXPECT_EQ(reader.Text(), name);
    EXPECT_TRUE(reader.done());
  }
  EXPECT_EQ(TakeOptionReply(&out), kRepAck);
  EXPECT_TRUE(out.empty());
}

TEST_F(Nbd, ExportNameAnswersWithoutAHeaderAndWithZeroesWhenAskedTo) {
  Greet(kFixedNewstyle);
  Bytes name;
  Append(&name, "vol");
  FeedAll(Option(kOptExportName, name));
  Answer();
  const Bytes out = Drain();
  ASSERT_EQ(out.size(), 134u);
  EXPECT_EQ(LoadBe<uint64_t>(out.data()), disk.size());
  FeedAll(Command(kCmdFlush, 0, 0));
  Answer();
  EXPECT_EQ(Drain(), SimpleReply(kOk));
}

TEST_F(Nbd, ExportNameOfAnUnknownVolumeCloses) {
  Greet();
  Bytes name;
  Append(&name, "none");
  FeedAll(Option(kOptExportName, name));
  Answer();
  EXPECT_TRUE(session->wants_close());
  EXPECT_EQ(session->error(), "no volume \"none\"");
}

TEST_F(Nbd, UnknownOptionsAreRefusedOneByOne) {
  Greet();
  for (uint32_t option : {4u, 5u, 11u, 999u}) {
    FeedAll(Option(option, Bytes(100)));
    EXPECT_EQ(Drain(), OptionReply(option, kRepErrUnsupported));
  }
}

TEST_F(Nbd, MalformedOptionsAreInvalid) {
  Greet();
  FeedAll(Option(kOptList, Bytes(1)));
  EXPECT_EQ(Drain(), OptionReply(kOptList, kRepErrInvalid));
  FeedAll(Option(kOptStructuredReply, Bytes(1)));
  EXPECT_EQ(Drain(), OptionReply(kOptStructuredReply, kRepErrInvalid));
  Bytes body = ExportBody("vol");
  body.pop_back();
  FeedAll(Option(kOptGo, body));
  EXPECT_EQ(Drain(), OptionReply(kOptGo, kRepErrInvalid));
  body = ExportBody("vol");
  body[0] = std::byte{0xff};  // a name of 4 GiB
  FeedAll(Option(kOptGo, body));
  EXPECT_EQ(Drain(), OptionReply(kOptGo, kRepErrInvalid));
  FeedAll(Option(kOptSetMetaContext, MetaBody("vol", {kAllocationContext})));
  EXPECT_EQ(Drain(), OptionReply(kOptSetMetaContext, kRepErrInvalid)) << "not structured yet";
}

TEST_F(Nbd, MetaContextsAreListedAndSet) {
  Greet();
  FeedAll(Option(kOptStructuredReply));
  Drain();
  Bytes answer;
  Append(&answer, BeWriter<4>().U32(0).span());
  Append(&answer, kAllocationContext);
  for (const auto& queries :
       std::vector<std::vector<std::string_view>>{{}, {"base:"}, {"x:y", kAllocationContext}}) {
    FeedAll(Option(kOptListMetaContext, MetaBody("vol", queries)));
    Bytes expected = OptionReply(kOptListMetaContext, kRepMetaContext, answer);
    Append(&expected, OptionReply(kOptListMetaContext, kRepAck));
    EXPECT_EQ(Drain(), expected);
  }
  FeedAll(Option(kOptSetMetaContext, MetaBody("vol", {"qemu:dirty-bitmap:x"})));
  EXPECT_EQ(Drain(), OptionReply(kOptSetMetaContext, kRepAck));
}

}  // namespace
}  // namespace gabion::nbd
