"""``python -m zhiyin`` is the same as ``zhiyin``; ``torchrun -m zhiyin`` starts it in several processes."""

from zhiyin.cli.main import main

if __name__ == "__main__":
    main()
