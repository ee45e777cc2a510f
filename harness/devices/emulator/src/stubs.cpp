// Symbols that libtorch_npu needs to load and whose effect nothing here depends on: profiling,
// dumps, operator attributes, virtual memory, shared memory between processes, custom kernels,
// collectives of several NPUs (linked, not looked up, by the first posts of a release).
// They answer 0.  Their signatures do not matter: the caller cleans the arguments up.
#include "control.h"

#define STUB(name) \
  EMULATOR_API long name() { return 0; }

STUB(HcclAllGather)
STUB(HcclAllReduce)
STUB(HcclBroadcast)
STUB(HcclCommDestroy)
STUB(HcclCommInitAll)
STUB(HcclCommInitRootInfo)
STUB(HcclGetRootInfo)
STUB(HcclRecv)
STUB(HcclReduceScatter)
STUB(HcclSend)
STUB(MsprofGetHashId)
STUB(MsprofRegisterCallback)
STUB(MsprofReportAdditionalInfo)
STUB(MsprofReportApi)
STUB(MsprofReportCompactInfo)
STUB(MsprofSysCycleTime)
STUB(aclmdlFinalizeDump)
STUB(aclmdlInitDump)
STUB(aclmdlSetDump)
STUB(aclopSetAttrBool)
STUB(aclopSetAttrDataType)
STUB(aclopSetAttrInt)
STUB(aclopSetAttrListBool)
STUB(aclopSetAttrListFloat)
STUB(aclopSetAttrListInt)
STUB(aclopSetAttrListListInt)
STUB(aclrtBinaryGetFunction)
STUB(aclrtBinaryLoadFromData)
STUB(aclrtDeviceEnablePeerAccess)
STUB(aclrtDeviceGetBareTgid)
STUB(aclrtFreePhysical)
STUB(aclrtGetFunctionAddr)
STUB(aclrtMallocPhysical)
STUB(aclrtMapMem)
STUB(aclrtMemExportToShareableHandle)
STUB(aclrtMemImportFromShareableHandle)
STUB(aclrtMemSetPidToShareableHandle)
STUB(aclrtProcessReport)
STUB(aclrtReleaseMemAddress)
STUB(aclrtReserveMemAddress)
STUB(aclrtUnmapMem)
STUB(rtDevBinaryRegister)
STUB(rtFunctionRegister)
STUB(rtGetC2cCtrlAddr)
STUB(rtKernelLaunch)

#undef STUB
