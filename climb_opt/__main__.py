"""`python -m climb_opt` and `accelerate launch -m climb_opt`: the command line."""

from climb_opt.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
