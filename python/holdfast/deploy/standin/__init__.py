"""A small stand-in for distributed inference, in the shape of Dynamo's: a frontend with OpenAI's routes, workers for prefill and
decode, etcd to find each other, NATS to talk. It computes nothing of use, but each request makes real calls of CUDA, so a broken GPU
breaks requests. It is what `python3 -m dynamo.frontend`, `dynamo.vllm`, `dynamo.sglang`, `dynamo.trtllm` are in the local cluster's
images.
"""
