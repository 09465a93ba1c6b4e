"""`python3 -m dynamo.vllm`."""

from holdfast.deploy.standin.worker import main

if __name__ == "__main__":
    main()
