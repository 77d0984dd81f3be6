"""`python -m toolchain` is `edgetl`."""

from toolchain.cli import main

if __name__ == "__main__":
    main()
