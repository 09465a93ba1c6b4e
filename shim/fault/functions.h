// Every function that the shim stands in front of: X(name, API, group, traits, variants).
//
// The shim never needs a function's parameters, only its name: it hands calls on as they are (entries.c). What it does need to
// know of some parameters is in the traits. The variants are the suffixes under which a name is exported: `_v2` where its
// parameters have changed, `_ptsz` and `_ptds` where the default stream is each thread's own. A suffix that a library does not
// have does no harm. Names: CUDA's and NVML's headers, 11 to 13.
#pragma once

// clang-format off
#define HF_FUNCTIONS(X) \
  /* driver */ \
  X(cuInit, DRIVER, START, NOTHING, PLAIN) X(cuDriverGetVersion, DRIVER, START, NOTHING, PLAIN) X(cuGetErrorName, DRIVER, START, NOTHING, PLAIN) \
  X(cuGetErrorString, DRIVER, START, NOTHING, PLAIN) X(cuGetExportTable, DRIVER, START, NOTHING, PLAIN) \
  X(cuGetProcAddress, DRIVER, START, SPECIAL, V2PTSZ) X(cuDeviceGetCount, DRIVER, DEVICE, NOTHING, PLAIN) \
  X(cuDeviceGet, DRIVER, DEVICE, DEVICE_SECOND, PLAIN) X(cuDeviceGetName, DRIVER, DEVICE, DEVICE_THIRD, PLAIN) \
  X(cuDeviceGetUuid, DRIVER, DEVICE, DEVICE_SECOND, V2) X(cuDeviceGetLuid, DRIVER, DEVICE, DEVICE_THIRD, PLAIN) \
  X(cuDeviceTotalMem, DRIVER, DEVICE, DEVICE_SECOND, V2) X(cuDeviceGetAttribute, DRIVER, DEVICE, DEVICE_THIRD, PLAIN) \
  X(cuDeviceGetProperties, DRIVER, DEVICE, DEVICE_SECOND, PLAIN) X(cuDeviceComputeCapability, DRIVER, DEVICE, DEVICE_THIRD, PLAIN) \
  X(cuDeviceGetByPCIBusId, DRIVER, DEVICE, NOTHING, PLAIN) X(cuDeviceGetPCIBusId, DRIVER, DEVICE, DEVICE_THIRD, PLAIN) \
  X(cuDeviceCanAccessPeer, DRIVER, DEVICE, DEVICE_SECOND, PLAIN) X(cuDeviceGetP2PAttribute, DRIVER, DEVICE, DEVICE_THIRD, PLAIN) \
  X(cuCtxCreate, DRIVER, CONTEXT, SWITCHES, V4) X(cuCtxDestroy, DRIVER, CONTEXT, SWITCHES, V2) X(cuCtxPushCurrent, DRIVER, CONTEXT, SWITCHES, V2) \
  X(cuCtxPopCurrent, DRIVER, CONTEXT, SWITCHES, V2) X(cuCtxSetCurrent, DRIVER, CONTEXT, SWITCHES, PLAIN) \
  X(cuCtxGetCurrent, DRIVER, CONTEXT, NOTHING, PLAIN) X(cuCtxGetDevice, DRIVER, CONTEXT, NOTHING, V2) \
  X(cuCtxGetFlags, DRIVER, CONTEXT, NOTHING, PLAIN) X(cuCtxGetApiVersion, DRIVER, CONTEXT, NOTHING, PLAIN) \
  X(cuCtxGetLimit, DRIVER, CONTEXT, NOTHING, PLAIN) X(cuCtxSetLimit, DRIVER, CONTEXT, NOTHING, PLAIN) \
  X(cuCtxGetCacheConfig, DRIVER, CONTEXT, NOTHING, PLAIN) X(cuCtxSetCacheConfig, DRIVER, CONTEXT, NOTHING, PLAIN) \
  X(cuCtxGetStreamPriorityRange, DRIVER, CONTEXT, NOTHING, PLAIN) X(cuCtxAttach, DRIVER, CONTEXT, SWITCHES, PLAIN) \
  X(cuCtxDetach, DRIVER, CONTEXT, SWITCHES, PLAIN) X(cuCtxEnablePeerAccess, DRIVER, CONTEXT, NOTHING, PLAIN) \
  X(cuCtxDisablePeerAccess, DRIVER, CONTEXT, NOTHING, PLAIN) X(cuDevicePrimaryCtxRetain, DRIVER, CONTEXT, DEVICE_SECOND, PLAIN) \
  X(cuDevicePrimaryCtxRelease, DRIVER, CONTEXT, DEVICE_FIRST, V2) X(cuDevicePrimaryCtxReset, DRIVER, CONTEXT, DEVICE_FIRST + SWITCHES, V2) \
  X(cuDevicePrimaryCtxGetState, DRIVER, CONTEXT, DEVICE_FIRST, PLAIN) X(cuDevicePrimaryCtxSetFlags, DRIVER, CONTEXT, DEVICE_FIRST, V2) \
  X(cuGreenCtxCreate, DRIVER, CONTEXT, DEVICE_THIRD, PLAIN) X(cuGreenCtxDestroy, DRIVER, CONTEXT, NOTHING, PLAIN) \
  X(cuCtxFromGreenCtx, DRIVER, CONTEXT, NOTHING, PLAIN) X(cuMemAlloc, DRIVER, ALLOC, NOTHING, V2) X(cuMemAllocPitch, DRIVER, ALLOC, NOTHING, V2) \
  X(cuMemAllocManaged, DRIVER, ALLOC, NOTHING, PLAIN) X(cuMemAllocHost, DRIVER, ALLOC, NOTHING, V2) X(cuMemHostAlloc, DRIVER, ALLOC, NOTHING, PLAIN) \
  X(cuMemHostRegister, DRIVER, ALLOC, NOTHING, V2) X(cuMemAllocAsync, DRIVER, ALLOC, NOTHING, PTSZ) \
  X(cuMemAllocFromPoolAsync, DRIVER, ALLOC, NOTHING, PTSZ) X(cuMemPoolCreate, DRIVER, ALLOC, NOTHING, PLAIN) \
  X(cuMemCreate, DRIVER, ALLOC, NOTHING, PLAIN) X(cuMemAddressReserve, DRIVER, ALLOC, NOTHING, PLAIN) X(cuMemMap, DRIVER, ALLOC, NOTHING, PLAIN) \
  X(cuMemSetAccess, DRIVER, ALLOC, NOTHING, PLAIN) X(cuMemRetainAllocationHandle, DRIVER, ALLOC, NOTHING, PLAIN) \
  X(cuArrayCreate, DRIVER, ALLOC, NOTHING, V2) X(cuArray3DCreate, DRIVER, ALLOC, NOTHING, V2) X(cuMipmappedArrayCreate, DRIVER, ALLOC, NOTHING, PLAIN) \
  X(cuMulticastCreate, DRIVER, ALLOC, NOTHING, PLAIN) X(cuMemFree, DRIVER, FREE, NOTHING, V2) X(cuMemFreeHost, DRIVER, FREE, NOTHING, PLAIN) \
  X(cuMemHostUnregister, DRIVER, FREE, NOTHING, PLAIN) X(cuMemFreeAsync, DRIVER, FREE, NOTHING, PTSZ) \
  X(cuMemPoolDestroy, DRIVER, FREE, NOTHING, PLAIN) X(cuMemPoolTrimTo, DRIVER, FREE, NOTHING, PLAIN) X(cuMemRelease, DRIVER, FREE, NOTHING, PLAIN) \
  X(cuMemUnmap, DRIVER, FREE, NOTHING, PLAIN) X(cuMemAddressFree, DRIVER, FREE, NOTHING, PLAIN) X(cuArrayDestroy, DRIVER, FREE, NOTHING, PLAIN) \
  X(cuMipmappedArrayDestroy, DRIVER, FREE, NOTHING, PLAIN) X(cuMemGetInfo, DRIVER, MEMORY, NOTHING, V2) \
  X(cuMemGetAddressRange, DRIVER, MEMORY, NOTHING, V2) X(cuMemHostGetDevicePointer, DRIVER, MEMORY, NOTHING, V2) \
  X(cuMemHostGetFlags, DRIVER, MEMORY, NOTHING, PLAIN) X(cuMemGetAllocationGranularity, DRIVER, MEMORY, NOTHING, PLAIN) \
  X(cuMemAdvise, DRIVER, MEMORY, NOTHING, V2) X(cuMemPrefetchAsync, DRIVER, MEMORY, NOTHING, V2PTSZ) \
  X(cuMemRangeGetAttribute, DRIVER, MEMORY, NOTHING, PLAIN) X(cuPointerGetAttribute, DRIVER, MEMORY, NOTHING, PLAIN) \
  X(cuPointerGetAttributes, DRIVER, MEMORY, NOTHING, PLAIN) X(cuPointerSetAttribute, DRIVER, MEMORY, NOTHING, PLAIN) \
  X(cuMemPoolGetAttribute, DRIVER, MEMORY, NOTHING, PLAIN) X(cuMemPoolSetAttribute, DRIVER, MEMORY, NOTHING, PLAIN) \
  X(cuMemPoolSetAccess, DRIVER, MEMORY, NOTHING, PLAIN) X(cuMemPoolGetAccess, DRIVER, MEMORY, NOTHING, PLAIN) \
  X(cuDeviceGetDefaultMemPool, DRIVER, MEMORY, DEVICE_SECOND, PLAIN) X(cuDeviceGetMemPool, DRIVER, MEMORY, DEVICE_SECOND, PLAIN) \
  X(cuDeviceSetMemPool, DRIVER, MEMORY, DEVICE_FIRST, PLAIN) X(cuMemcpy, DRIVER, COPY, NOTHING, PTDS) X(cuMemcpyAsync, DRIVER, COPY, NOTHING, PTSZ) \
  X(cuMemcpyPeer, DRIVER, COPY, NOTHING, PTDS) X(cuMemcpyPeerAsync, DRIVER, COPY, NOTHING, PTSZ) X(cuMemcpyHtoD, DRIVER, COPY, NOTHING, V2PTDS) \
  X(cuMemcpyDtoH, DRIVER, COPY, NOTHING, V2PTDS) X(cuMemcpyDtoD, DRIVER, COPY, NOTHING, V2PTDS) X(cuMemcpyHtoDAsync, DRIVER, COPY, NOTHING, V2PTSZ) \
  X(cuMemcpyDtoHAsync, DRIVER, COPY, NOTHING, V2PTSZ) X(cuMemcpyDtoDAsync, DRIVER, COPY, NOTHING, V2PTSZ) \
  X(cuMemcpyDtoA, DRIVER, COPY, NOTHING, V2PTDS) X(cuMemcpyAtoD, DRIVER, COPY, NOTHING, V2PTDS) X(cuMemcpyHtoA, DRIVER, COPY, NOTHING, V2PTDS) \
  X(cuMemcpyAtoH, DRIVER, COPY, NOTHING, V2PTDS) X(cuMemcpyAtoA, DRIVER, COPY, NOTHING, V2PTDS) X(cuMemcpyHtoAAsync, DRIVER, COPY, NOTHING, V2PTSZ) \
  X(cuMemcpyAtoHAsync, DRIVER, COPY, NOTHING, V2PTSZ) X(cuMemcpy2D, DRIVER, COPY, NOTHING, V2PTDS) \
  X(cuMemcpy2DUnaligned, DRIVER, COPY, NOTHING, V2PTDS) X(cuMemcpy2DAsync, DRIVER, COPY, NOTHING, V2PTSZ) X(cuMemcpy3D, DRIVER, COPY, NOTHING, V2PTDS) \
  X(cuMemcpy3DAsync, DRIVER, COPY, NOTHING, V2PTSZ) X(cuMemcpy3DPeer, DRIVER, COPY, NOTHING, PTDS) X(cuMemcpy3DPeerAsync, DRIVER, COPY, NOTHING, PTSZ) \
  X(cuMemcpyBatchAsync, DRIVER, COPY, NOTHING, V2PTSZ) X(cuMemcpy3DBatchAsync, DRIVER, COPY, NOTHING, V2PTSZ) \
  X(cuMemsetD8, DRIVER, FILL, NOTHING, V2PTDS) X(cuMemsetD16, DRIVER, FILL, NOTHING, V2PTDS) X(cuMemsetD32, DRIVER, FILL, NOTHING, V2PTDS) \
  X(cuMemsetD2D8, DRIVER, FILL, NOTHING, V2PTDS) X(cuMemsetD2D16, DRIVER, FILL, NOTHING, V2PTDS) X(cuMemsetD2D32, DRIVER, FILL, NOTHING, V2PTDS) \
  X(cuMemsetD8Async, DRIVER, FILL, NOTHING, PTSZ) X(cuMemsetD16Async, DRIVER, FILL, NOTHING, PTSZ) X(cuMemsetD32Async, DRIVER, FILL, NOTHING, PTSZ) \
  X(cuMemsetD2D8Async, DRIVER, FILL, NOTHING, PTSZ) X(cuMemsetD2D16Async, DRIVER, FILL, NOTHING, PTSZ) \
  X(cuMemsetD2D32Async, DRIVER, FILL, NOTHING, PTSZ) X(cuLaunchKernel, DRIVER, LAUNCH, NOTHING, PTSZ) \
  X(cuLaunchKernelEx, DRIVER, LAUNCH, NOTHING, PTSZ) X(cuLaunchCooperativeKernel, DRIVER, LAUNCH, NOTHING, PTSZ) \
  X(cuLaunchCooperativeKernelMultiDevice, DRIVER, LAUNCH, NOTHING, PLAIN) X(cuLaunchHostFunc, DRIVER, LAUNCH, NOTHING, V2PTSZ) \
  X(cuLaunch, DRIVER, LAUNCH, NOTHING, PLAIN) X(cuLaunchGrid, DRIVER, LAUNCH, NOTHING, PLAIN) X(cuLaunchGridAsync, DRIVER, LAUNCH, NOTHING, PLAIN) \
  X(cuGraphLaunch, DRIVER, GRAPH, NOTHING, PTSZ) X(cuGraphInstantiate, DRIVER, GRAPH, NOTHING, V2) \
  X(cuGraphInstantiateWithFlags, DRIVER, GRAPH, NOTHING, PLAIN) X(cuGraphInstantiateWithParams, DRIVER, GRAPH, NOTHING, PTSZ) \
  X(cuGraphUpload, DRIVER, GRAPH, NOTHING, PTSZ) X(cuGraphExecUpdate, DRIVER, GRAPH, NOTHING, V2) X(cuGraphExecDestroy, DRIVER, GRAPH, NOTHING, PLAIN) \
  X(cuGraphCreate, DRIVER, GRAPH, NOTHING, PLAIN) X(cuGraphDestroy, DRIVER, GRAPH, NOTHING, PLAIN) X(cuGraphAddNode, DRIVER, GRAPH, NOTHING, V3) \
  X(cuGraphAddKernelNode, DRIVER, GRAPH, NOTHING, V2) X(cuStreamBeginCapture, DRIVER, GRAPH, NOTHING, V2PTSZ) \
  X(cuStreamBeginCaptureToGraph, DRIVER, GRAPH, NOTHING, PTSZ) X(cuStreamEndCapture, DRIVER, GRAPH, NOTHING, PTSZ) \
  X(cuStreamIsCapturing, DRIVER, GRAPH, NOTHING, PTSZ) X(cuCtxSynchronize, DRIVER, SYNC, NOTHING, V2) \
  X(cuStreamSynchronize, DRIVER, SYNC, NOTHING, PTSZ) X(cuStreamQuery, DRIVER, SYNC, NOTHING, PTSZ) \
  X(cuEventSynchronize, DRIVER, SYNC, NOTHING, PLAIN) X(cuEventQuery, DRIVER, SYNC, NOTHING, PLAIN) X(cuStreamCreate, DRIVER, STREAM, NOTHING, PLAIN) \
  X(cuStreamCreateWithPriority, DRIVER, STREAM, NOTHING, PLAIN) X(cuGreenCtxStreamCreate, DRIVER, STREAM, NOTHING, PLAIN) \
  X(cuStreamDestroy, DRIVER, STREAM, NOTHING, V2) X(cuStreamWaitEvent, DRIVER, STREAM, NOTHING, PTSZ) \
  X(cuStreamAddCallback, DRIVER, STREAM, NOTHING, PTSZ) X(cuStreamAttachMemAsync, DRIVER, STREAM, NOTHING, PTSZ) \
  X(cuStreamGetFlags, DRIVER, STREAM, NOTHING, PTSZ) X(cuStreamGetPriority, DRIVER, STREAM, NOTHING, PTSZ) \
  X(cuStreamGetCtx, DRIVER, STREAM, NOTHING, V2PTSZ) X(cuStreamGetDevice, DRIVER, STREAM, NOTHING, PTSZ) \
  X(cuStreamWaitValue32, DRIVER, STREAM, NOTHING, V2PTSZ) X(cuStreamWaitValue64, DRIVER, STREAM, NOTHING, V2PTSZ) \
  X(cuStreamWriteValue32, DRIVER, STREAM, NOTHING, V2PTSZ) X(cuStreamWriteValue64, DRIVER, STREAM, NOTHING, V2PTSZ) \
  X(cuStreamBatchMemOp, DRIVER, STREAM, NOTHING, V2PTSZ) X(cuEventCreate, DRIVER, EVENT, NOTHING, PLAIN) \
  X(cuEventRecord, DRIVER, EVENT, NOTHING, PTSZ) X(cuEventRecordWithFlags, DRIVER, EVENT, NOTHING, PTSZ) \
  X(cuEventElapsedTime, DRIVER, EVENT, NOTHING, V2) X(cuEventDestroy, DRIVER, EVENT, NOTHING, V2) X(cuModuleLoad, DRIVER, MODULE, NOTHING, PLAIN) \
  X(cuModuleLoadData, DRIVER, MODULE, NOTHING, PLAIN) X(cuModuleLoadDataEx, DRIVER, MODULE, NOTHING, PLAIN) \
  X(cuModuleLoadFatBinary, DRIVER, MODULE, NOTHING, PLAIN) X(cuModuleUnload, DRIVER, MODULE, NOTHING, PLAIN) \
  X(cuModuleGetFunction, DRIVER, MODULE, NOTHING, PLAIN) X(cuModuleGetGlobal, DRIVER, MODULE, NOTHING, V2) \
  X(cuLibraryLoadData, DRIVER, MODULE, NOTHING, PLAIN) X(cuLibraryLoadFromFile, DRIVER, MODULE, NOTHING, PLAIN) \
  X(cuLibraryUnload, DRIVER, MODULE, NOTHING, PLAIN) X(cuLibraryGetKernel, DRIVER, MODULE, NOTHING, PLAIN) \
  X(cuLibraryGetModule, DRIVER, MODULE, NOTHING, PLAIN) X(cuLibraryGetGlobal, DRIVER, MODULE, NOTHING, PLAIN) \
  X(cuKernelGetFunction, DRIVER, MODULE, NOTHING, PLAIN) X(cuFuncGetAttribute, DRIVER, MODULE, NOTHING, PLAIN) \
  X(cuFuncSetAttribute, DRIVER, MODULE, NOTHING, PLAIN) X(cuFuncLoad, DRIVER, MODULE, NOTHING, PLAIN) X(cuLinkCreate, DRIVER, MODULE, NOTHING, V2) \
  X(cuLinkAddData, DRIVER, MODULE, NOTHING, V2) X(cuLinkComplete, DRIVER, MODULE, NOTHING, PLAIN) \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessor, DRIVER, MODULE, NOTHING, PLAIN) X(cuOccupancyMaxPotentialBlockSize, DRIVER, MODULE, NOTHING, PLAIN) \
  X(cuIpcGetMemHandle, DRIVER, IPC, NOTHING, PLAIN) X(cuIpcOpenMemHandle, DRIVER, IPC, NOTHING, V2) \
  X(cuIpcCloseMemHandle, DRIVER, IPC, NOTHING, PLAIN) X(cuIpcGetEventHandle, DRIVER, IPC, NOTHING, PLAIN) \
  X(cuIpcOpenEventHandle, DRIVER, IPC, NOTHING, PLAIN) X(cuMemExportToShareableHandle, DRIVER, IPC, NOTHING, PLAIN) \
  X(cuMemImportFromShareableHandle, DRIVER, IPC, NOTHING, PLAIN) X(cuMemPoolExportToShareableHandle, DRIVER, IPC, NOTHING, PLAIN) \
  X(cuMemPoolImportFromShareableHandle, DRIVER, IPC, NOTHING, PLAIN) X(cuMemPoolExportPointer, DRIVER, IPC, NOTHING, PLAIN) \
  X(cuMemPoolImportPointer, DRIVER, IPC, NOTHING, PLAIN) \
  /* runtime */ \
  X(cudaDriverGetVersion, RUNTIME, START, NOTHING, PLAIN) X(cudaRuntimeGetVersion, RUNTIME, START, NOTHING, PLAIN) \
  X(cudaGetErrorName, RUNTIME, START, NOTHING, PLAIN) X(cudaGetErrorString, RUNTIME, START, NOTHING, PLAIN) \
  X(cudaGetLastError, RUNTIME, START, NOTHING, PLAIN) X(cudaPeekAtLastError, RUNTIME, START, NOTHING, PLAIN) \
  X(cudaGetDriverEntryPoint, RUNTIME, START, SPECIAL, PTSZ) X(cudaGetDriverEntryPointByVersion, RUNTIME, START, SPECIAL, PTSZ) \
  X(cudaGetDeviceCount, RUNTIME, DEVICE, NOTHING, PLAIN) X(cudaGetDevice, RUNTIME, DEVICE, NOTHING, PLAIN) \
  X(cudaChooseDevice, RUNTIME, DEVICE, NOTHING, PLAIN) X(cudaGetDeviceProperties, RUNTIME, DEVICE, DEVICE_SECOND, V2) \
  X(cudaDeviceGetAttribute, RUNTIME, DEVICE, DEVICE_THIRD, PLAIN) X(cudaDeviceGetPCIBusId, RUNTIME, DEVICE, DEVICE_THIRD, PLAIN) \
  X(cudaDeviceGetByPCIBusId, RUNTIME, DEVICE, NOTHING, PLAIN) X(cudaDeviceCanAccessPeer, RUNTIME, DEVICE, DEVICE_SECOND, PLAIN) \
  X(cudaDeviceGetP2PAttribute, RUNTIME, DEVICE, DEVICE_THIRD, PLAIN) X(cudaGetDeviceFlags, RUNTIME, DEVICE, NOTHING, PLAIN) \
  X(cudaSetDeviceFlags, RUNTIME, DEVICE, NOTHING, PLAIN) X(cudaSetValidDevices, RUNTIME, DEVICE, NOTHING, PLAIN) \
  X(cudaSetDevice, RUNTIME, CONTEXT, DEVICE_FIRST + SWITCHES, PLAIN) X(cudaInitDevice, RUNTIME, CONTEXT, DEVICE_FIRST + SWITCHES, PLAIN) \
  X(cudaDeviceReset, RUNTIME, CONTEXT, SWITCHES, PLAIN) X(cudaDeviceGetLimit, RUNTIME, CONTEXT, NOTHING, PLAIN) \
  X(cudaDeviceSetLimit, RUNTIME, CONTEXT, NOTHING, PLAIN) X(cudaDeviceGetCacheConfig, RUNTIME, CONTEXT, NOTHING, PLAIN) \
  X(cudaDeviceSetCacheConfig, RUNTIME, CONTEXT, NOTHING, PLAIN) X(cudaDeviceGetStreamPriorityRange, RUNTIME, CONTEXT, NOTHING, PLAIN) \
  X(cudaDeviceEnablePeerAccess, RUNTIME, CONTEXT, NOTHING, PLAIN) X(cudaDeviceDisablePeerAccess, RUNTIME, CONTEXT, NOTHING, PLAIN) \
  X(cudaMalloc, RUNTIME, ALLOC, NOTHING, PLAIN) X(cudaMallocPitch, RUNTIME, ALLOC, NOTHING, PLAIN) \
  X(cudaMallocManaged, RUNTIME, ALLOC, NOTHING, PLAIN) X(cudaMallocHost, RUNTIME, ALLOC, NOTHING, PLAIN) \
  X(cudaHostAlloc, RUNTIME, ALLOC, NOTHING, PLAIN) X(cudaHostRegister, RUNTIME, ALLOC, NOTHING, PLAIN) \
  X(cudaMallocArray, RUNTIME, ALLOC, NOTHING, PLAIN) X(cudaMalloc3D, RUNTIME, ALLOC, NOTHING, PLAIN) \
  X(cudaMalloc3DArray, RUNTIME, ALLOC, NOTHING, PLAIN) X(cudaMallocAsync, RUNTIME, ALLOC, NOTHING, PTSZ) \
  X(cudaMallocFromPoolAsync, RUNTIME, ALLOC, NOTHING, PTSZ) X(cudaMemPoolCreate, RUNTIME, ALLOC, NOTHING, PLAIN) \
  X(cudaFree, RUNTIME, FREE, NOTHING, PLAIN) X(cudaFreeHost, RUNTIME, FREE, NOTHING, PLAIN) X(cudaHostUnregister, RUNTIME, FREE, NOTHING, PLAIN) \
  X(cudaFreeArray, RUNTIME, FREE, NOTHING, PLAIN) X(cudaFreeAsync, RUNTIME, FREE, NOTHING, PTSZ) X(cudaMemPoolDestroy, RUNTIME, FREE, NOTHING, PLAIN) \
  X(cudaMemPoolTrimTo, RUNTIME, FREE, NOTHING, PLAIN) X(cudaMemGetInfo, RUNTIME, MEMORY, NOTHING, PLAIN) \
  X(cudaHostGetDevicePointer, RUNTIME, MEMORY, NOTHING, PLAIN) X(cudaHostGetFlags, RUNTIME, MEMORY, NOTHING, PLAIN) \
  X(cudaMemAdvise, RUNTIME, MEMORY, NOTHING, V2) X(cudaMemPrefetchAsync, RUNTIME, MEMORY, NOTHING, V2PTSZ) \
  X(cudaMemRangeGetAttribute, RUNTIME, MEMORY, NOTHING, PLAIN) X(cudaPointerGetAttributes, RUNTIME, MEMORY, NOTHING, PLAIN) \
  X(cudaMemPoolGetAttribute, RUNTIME, MEMORY, NOTHING, PLAIN) X(cudaMemPoolSetAttribute, RUNTIME, MEMORY, NOTHING, PLAIN) \
  X(cudaMemPoolSetAccess, RUNTIME, MEMORY, NOTHING, PLAIN) X(cudaDeviceGetDefaultMemPool, RUNTIME, MEMORY, DEVICE_SECOND, PLAIN) \
  X(cudaDeviceGetMemPool, RUNTIME, MEMORY, DEVICE_SECOND, PLAIN) X(cudaDeviceSetMemPool, RUNTIME, MEMORY, DEVICE_FIRST, PLAIN) \
  X(cudaMemcpy, RUNTIME, COPY, NOTHING, PTDS) X(cudaMemcpyAsync, RUNTIME, COPY, NOTHING, PTSZ) X(cudaMemcpyPeer, RUNTIME, COPY, NOTHING, PLAIN) \
  X(cudaMemcpyPeerAsync, RUNTIME, COPY, NOTHING, PLAIN) X(cudaMemcpy2D, RUNTIME, COPY, NOTHING, PTDS) \
  X(cudaMemcpy2DAsync, RUNTIME, COPY, NOTHING, PTSZ) X(cudaMemcpy3D, RUNTIME, COPY, NOTHING, PTDS) X(cudaMemcpy3DAsync, RUNTIME, COPY, NOTHING, PTSZ) \
  X(cudaMemcpy3DPeer, RUNTIME, COPY, NOTHING, PTDS) X(cudaMemcpy3DPeerAsync, RUNTIME, COPY, NOTHING, PTSZ) \
  X(cudaMemcpyToSymbol, RUNTIME, COPY, NOTHING, PTDS) X(cudaMemcpyFromSymbol, RUNTIME, COPY, NOTHING, PTDS) \
  X(cudaMemcpyToSymbolAsync, RUNTIME, COPY, NOTHING, PTSZ) X(cudaMemcpyFromSymbolAsync, RUNTIME, COPY, NOTHING, PTSZ) \
  X(cudaMemcpyToArray, RUNTIME, COPY, NOTHING, PTDS) X(cudaMemcpyFromArray, RUNTIME, COPY, NOTHING, PTDS) \
  X(cudaMemcpy2DToArray, RUNTIME, COPY, NOTHING, PTDS) X(cudaMemcpy2DFromArray, RUNTIME, COPY, NOTHING, PTDS) \
  X(cudaMemcpyBatchAsync, RUNTIME, COPY, NOTHING, PTSZ) X(cudaMemcpy3DBatchAsync, RUNTIME, COPY, NOTHING, PTSZ) \
  X(cudaMemset, RUNTIME, FILL, NOTHING, PTDS) X(cudaMemset2D, RUNTIME, FILL, NOTHING, PTDS) X(cudaMemset3D, RUNTIME, FILL, NOTHING, PTDS) \
  X(cudaMemsetAsync, RUNTIME, FILL, NOTHING, PTSZ) X(cudaMemset2DAsync, RUNTIME, FILL, NOTHING, PTSZ) \
  X(cudaMemset3DAsync, RUNTIME, FILL, NOTHING, PTSZ) X(cudaLaunchKernel, RUNTIME, LAUNCH, NOTHING, PTSZ) \
  X(__cudaLaunchKernel, RUNTIME, LAUNCH, NOTHING, PTSZ) X(cudaLaunchKernelExC, RUNTIME, LAUNCH, NOTHING, PTSZ) \
  X(cudaLaunchCooperativeKernel, RUNTIME, LAUNCH, NOTHING, PTSZ) X(cudaLaunchCooperativeKernelMultiDevice, RUNTIME, LAUNCH, NOTHING, PLAIN) \
  X(cudaLaunchHostFunc, RUNTIME, LAUNCH, NOTHING, PTSZ) X(cudaGraphLaunch, RUNTIME, GRAPH, NOTHING, PTSZ) \
  X(cudaGraphInstantiate, RUNTIME, GRAPH, NOTHING, PLAIN) X(cudaGraphInstantiateWithFlags, RUNTIME, GRAPH, NOTHING, PLAIN) \
  X(cudaGraphInstantiateWithParams, RUNTIME, GRAPH, NOTHING, PTSZ) X(cudaGraphUpload, RUNTIME, GRAPH, NOTHING, PTSZ) \
  X(cudaGraphExecUpdate, RUNTIME, GRAPH, NOTHING, PLAIN) X(cudaGraphExecDestroy, RUNTIME, GRAPH, NOTHING, PLAIN) \
  X(cudaGraphCreate, RUNTIME, GRAPH, NOTHING, PLAIN) X(cudaGraphDestroy, RUNTIME, GRAPH, NOTHING, PLAIN) \
  X(cudaGraphAddNode, RUNTIME, GRAPH, NOTHING, V2) X(cudaGraphAddKernelNode, RUNTIME, GRAPH, NOTHING, PLAIN) \
  X(cudaStreamBeginCapture, RUNTIME, GRAPH, NOTHING, PTSZ) X(cudaStreamBeginCaptureToGraph, RUNTIME, GRAPH, NOTHING, PTSZ) \
  X(cudaStreamEndCapture, RUNTIME, GRAPH, NOTHING, PTSZ) X(cudaStreamIsCapturing, RUNTIME, GRAPH, NOTHING, PTSZ) \
  X(cudaDeviceSynchronize, RUNTIME, SYNC, NOTHING, PLAIN) X(cudaThreadSynchronize, RUNTIME, SYNC, NOTHING, PLAIN) \
  X(cudaStreamSynchronize, RUNTIME, SYNC, NOTHING, PTSZ) X(cudaStreamQuery, RUNTIME, SYNC, NOTHING, PTSZ) \
  X(cudaEventSynchronize, RUNTIME, SYNC, NOTHING, PLAIN) X(cudaEventQuery, RUNTIME, SYNC, NOTHING, PLAIN) \
  X(cudaStreamCreate, RUNTIME, STREAM, NOTHING, PLAIN) X(cudaStreamCreateWithFlags, RUNTIME, STREAM, NOTHING, PLAIN) \
  X(cudaStreamCreateWithPriority, RUNTIME, STREAM, NOTHING, PLAIN) X(cudaStreamDestroy, RUNTIME, STREAM, NOTHING, PLAIN) \
  X(cudaStreamWaitEvent, RUNTIME, STREAM, NOTHING, PTSZ) X(cudaStreamAddCallback, RUNTIME, STREAM, NOTHING, PTSZ) \
  X(cudaStreamAttachMemAsync, RUNTIME, STREAM, NOTHING, PTSZ) X(cudaStreamGetFlags, RUNTIME, STREAM, NOTHING, PTSZ) \
  X(cudaStreamGetPriority, RUNTIME, STREAM, NOTHING, PTSZ) X(cudaStreamGetDevice, RUNTIME, STREAM, NOTHING, PTSZ) \
  X(cudaEventCreate, RUNTIME, EVENT, NOTHING, PLAIN) X(cudaEventCreateWithFlags, RUNTIME, EVENT, NOTHING, PLAIN) \
  X(cudaEventRecord, RUNTIME, EVENT, NOTHING, PTSZ) X(cudaEventRecordWithFlags, RUNTIME, EVENT, NOTHING, PTSZ) \
  X(cudaEventElapsedTime, RUNTIME, EVENT, NOTHING, V2) X(cudaEventDestroy, RUNTIME, EVENT, NOTHING, PLAIN) \
  X(cudaFuncGetAttributes, RUNTIME, MODULE, NOTHING, PLAIN) X(cudaFuncSetAttribute, RUNTIME, MODULE, NOTHING, PLAIN) \
  X(cudaLibraryLoadData, RUNTIME, MODULE, NOTHING, PLAIN) X(cudaLibraryLoadFromFile, RUNTIME, MODULE, NOTHING, PLAIN) \
  X(cudaLibraryUnload, RUNTIME, MODULE, NOTHING, PLAIN) X(cudaLibraryGetKernel, RUNTIME, MODULE, NOTHING, PLAIN) \
  X(cudaLibraryGetGlobal, RUNTIME, MODULE, NOTHING, PLAIN) X(cudaGetSymbolAddress, RUNTIME, MODULE, NOTHING, PLAIN) \
  X(cudaOccupancyMaxActiveBlocksPerMultiprocessor, RUNTIME, MODULE, NOTHING, PLAIN) X(cudaIpcGetMemHandle, RUNTIME, IPC, NOTHING, PLAIN) \
  X(cudaIpcOpenMemHandle, RUNTIME, IPC, NOTHING, PLAIN) X(cudaIpcCloseMemHandle, RUNTIME, IPC, NOTHING, PLAIN) \
  X(cudaIpcGetEventHandle, RUNTIME, IPC, NOTHING, PLAIN) X(cudaIpcOpenEventHandle, RUNTIME, IPC, NOTHING, PLAIN) \
  X(cudaMemPoolExportToShareableHandle, RUNTIME, IPC, NOTHING, PLAIN) X(cudaMemPoolImportFromShareableHandle, RUNTIME, IPC, NOTHING, PLAIN) \
  X(cudaMemPoolExportPointer, RUNTIME, IPC, NOTHING, PLAIN) X(cudaMemPoolImportPointer, RUNTIME, IPC, NOTHING, PLAIN) \
  /* nvml */ \
  X(nvmlInit, NVML, NVML_START, NOTHING, V2) X(nvmlInitWithFlags, NVML, NVML_START, NOTHING, PLAIN) X(nvmlShutdown, NVML, NVML_START, NOTHING, PLAIN) \
  X(nvmlDeviceGetCount, NVML, NVML_START, NOTHING, V2) X(nvmlDeviceGetHandleByIndex, NVML, NVML_START, INDEX_FIRST, V2) \
  X(nvmlDeviceGetHandleByUUID, NVML, NVML_START, NAME_FIRST, PLAIN) \
  X(nvmlDeviceGetHandleByPciBusId, NVML, NVML_START, NAME_FIRST, V2) X(nvmlDeviceGetName, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetUUID, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceGetIndex, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetPciInfo, NVML, NVML, HANDLE_FIRST, V3) X(nvmlDeviceGetMemoryInfo, NVML, NVML, HANDLE_FIRST, V2) \
  X(nvmlDeviceGetUtilizationRates, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceGetTemperature, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetTemperatureV, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceGetPowerUsage, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetClockInfo, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceGetComputeRunningProcesses, NVML, NVML, HANDLE_FIRST, V3) \
  X(nvmlDeviceGetGraphicsRunningProcesses, NVML, NVML, HANDLE_FIRST, V3) X(nvmlDeviceGetEccMode, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetTotalEccErrors, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetMemoryErrorCounter, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceGetDetailedEccErrors, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetRetiredPages, NVML, NVML, HANDLE_FIRST, V2) X(nvmlDeviceGetRetiredPagesPendingStatus, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetRemappedRows, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceGetFieldValues, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetNvLinkState, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceGetNvLinkErrorCounter, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetComputeMode, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceGetPersistenceMode, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetPerformanceState, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceGetFanSpeed, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetMinorNumber, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceGetNumaNodeId, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetCudaComputeCapability, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceGetMigMode, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetGpuOperationMode, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceGetP2PStatus, NVML, NVML, HANDLE_FIRST, PLAIN) \
  X(nvmlDeviceGetTopologyCommonAncestor, NVML, NVML, HANDLE_FIRST, PLAIN) X(nvmlDeviceRegisterEvents, NVML, NVML, SPECIAL + HANDLE_FIRST, PLAIN) \
  X(nvmlEventSetWait, NVML, NVML, SPECIAL, V2) X(nvmlEventSetFree, NVML, NVML, NOTHING, PLAIN)
// clang-format on

enum hf_api { HF_DRIVER, HF_RUNTIME, HF_NVML };

/// What users name a set of functions by, in lower case. Those up to IPC use a device: a fault of the device makes them fail.
#define HF_GROUPS(X) \
  X(ALLOC)           \
  X(FREE)            \
  X(COPY)            \
  X(FILL)            \
  X(LAUNCH) X(GRAPH) X(SYNC) X(STREAM) X(EVENT) X(MODULE) X(MEMORY) X(IPC) X(CONTEXT) X(DEVICE) X(START) X(NVML) X(NVML_START)

#define HF_GROUP_NAME(group) HF_GROUP_##group,
enum hf_group { HF_GROUPS(HF_GROUP_NAME) HF_GROUPS_COUNT };
#undef HF_GROUP_NAME

enum hf_traits {
  NOTHING = 0,
  SPECIAL = 1,       ///< Looked at always, not just while something is armed.
  SWITCHES = 2,      ///< Afterwards another device may be current in this thread.
  DEVICE_FIRST = 4,  ///< That parameter is a device's number.
  DEVICE_SECOND = 8,
  DEVICE_THIRD = 16,
  HANDLE_FIRST = 32,  ///< The first one is a device's handle in NVML.
  INDEX_FIRST = 64,   ///< Its number in NVML.
  NAME_FIRST = 128,   ///< Its UUID, or where it is on the PCI bus.
};

#define HF_FUNCTION_ID(name, api, group, traits, variants) HF_ID_##name,
enum hf_function { HF_FUNCTIONS(HF_FUNCTION_ID) HF_FUNCTION_COUNT };
#undef HF_FUNCTION_ID

/// What a fault of kind HF_CORRUPT can strike (copies.c).
#define HF_CORRUPTIBLE(X) \
  X(cuMemcpy)             \
  X(cuMemcpyAsync)        \
  X(cuMemcpyHtoD)         \
  X(cuMemcpyDtoH)         \
  X(cuMemcpyDtoD) X(cuMemcpyHtoDAsync) X(cuMemcpyDtoHAsync) X(cuMemcpyDtoDAsync) X(cudaMemcpy) X(cudaMemcpyAsync)

/// The symbols of a name: S(symbol, name).
#define HF_PLAIN(S, name) S(name, name)
#define HF_PTSZ(S, name) S(name, name) S(name##_ptsz, name)
#define HF_PTDS(S, name) S(name, name) S(name##_ptds, name)
#define HF_V2(S, name) S(name, name) S(name##_v2, name)
#define HF_V3(S, name) HF_V2(S, name) S(name##_v3, name)
#define HF_V4(S, name) HF_V3(S, name) S(name##_v4, name)
#define HF_V2PTSZ(S, name) HF_V3(S, name) S(name##_ptsz, name) S(name##_v2_ptsz, name) S(name##_v3_ptsz, name)
#define HF_V2PTDS(S, name) HF_V2(S, name) S(name##_ptds, name) S(name##_v2_ptds, name)
