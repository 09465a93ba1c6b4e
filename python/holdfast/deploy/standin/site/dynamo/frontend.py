"""`python3 -m dynamo.frontend`."""

from holdfast.deploy.standin.frontend import main

if __name__ == "__main__":
    main()
