"""Operators of Caffe2 that noria does not convert, and why."""

from __future__ import annotations

from noria.convert.caffe2.handlers import caffe2_op

_REASONS = {
    "communication between processes: distribution is a pass over the finished Program": (
        "Allgather Allreduce Barrier Broadcast CloneCommonWorld CreateCommonWorld "
        "DestroyCommonWorld FileStoreHandlerCreate ReceiveTensor RedisStoreHandlerCreate Reduce "
        "ReduceScatter SendTensor StoreAdd StoreGet StoreSet StoreWait"
    ),
    "queues between threads: batches are fed": (
        "CloseBlobsQueue CloseRebatchingQueue CreateBlobsQueue CreateBlobsQueueDB "
        "CreateRebatchingQueue DequeueBlobs DequeueRebatchingQueue EnqueueBlobs "
        "EnqueueRebatchingQueue SafeDequeueBlobs SafeEnqueueBlobs WeightedSampleDequeueBlobs"
    ),
    "reads data: batches are fed": (
        "CheckDatasetConsistency CollectTensor ComputeOffset ConcatTensorVector CreateDB "
        "CreateTensorVector CreateTextFileReader CreateTreeCursor GetCursorOffset ImageInput "
        "PackRecords ReadNextBatch ReadRandomBatch ResetCursor SortAndShuffle TensorProtosDBInput "
        "TensorVectorSize TextFileReaderRead TrimDataset UnPackRecords VideoInput"
    ),
    "touches files while it runs: a model's parameters are read when it is converted": (
        "Checkpoint DBExists Load Save Snapshot"
    ),
    "works on strings, which are no tensors here": (
        "GivenTensorStringFill HSoftmaxSearch HuffmanTreeHierarchy StringEndsWith StringEquals "
        "StringJoin StringPrefix StringStartsWith StringSuffix"
    ),
    "works on a table of keys that grows while it runs": (
        "CreateMap IndexFreeze IndexGet IndexLoad IndexSize IndexStore IntIndexCreate "
        "KeyValueToMap LongIndexCreate MapToKeyValue StringIndexCreate"
    ),
    "keeps what earlier runs gave it in its output, which no net initialises": (
        "Accumulate AccumulateHistogram LastNWindowCollector ReservoirSampling"
    ),
    "grows a tensor while it runs": "ExtendTensor",
    "weights are made by hashing ids with a function of another library": (
        "FunHash FunHashGradient SparseFunHash SparseFunHashGradient"
    ),
    "weights packed for Caffe2's own engine": (
        "Int8ConvPackWeight Int8FCPackWeight Int8GenQuantParams"
    ),
    "Caffe2's own kernel mixes the samples of a batch, so that no reference tells what is right": (
        "TT TTLinearGradient"
    ),
    "shared between threads, where one step of noria runs as one": (
        "AsyncNetBarrier AtomicAppend AtomicFetchAdd AtomicFetchAdd64 CheckAtomicBool "
        "ConditionalSetAtomicBool CreateAtomicBool"
    ),
    "measures or watches the process: see noria's own profiler and trace": (
        "AveragePut CpuUtilizationReport GetAllBlobNames HasScope IncrementPut StatRegistryCreate "
        "StatRegistryExport StatRegistryUpdate StdDevPut Summarize TimerBegin TimerEnd TimerGet "
        "TimerGetAndEnd TimerPut WallClockTime"
    ),
    "stops the process on purpose": "Fail LogFatal ThrowChildThreadException ThrowException",
    "calls Python of the program that wrote the model": "Python PythonDLPack PythonGradient",
    "part of a backward net over time, which noria makes itself from RecurrentNetwork": (
        "RecurrentNetworkBlobFetcher RecurrentNetworkGradient "
        "rnn_internal_accumulate_gradient_input rnn_internal_apply_link"
    ),
}

UNSUPPORTED: dict[str, str] = {
    name: reason for reason, names in _REASONS.items() for name in names.split()
}

for _name, _reason in UNSUPPORTED.items():
    caffe2_op.refuse(_reason, _name)
