"""`python3 -m dynamo.sglang`."""

from holdfast.deploy.standin.worker import main

if __name__ == "__main__":
    main()
