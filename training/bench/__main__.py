"""`python -m training.bench`: the table of speeds."""

from training.bench.speed import main

if __name__ == "__main__":
    main()
