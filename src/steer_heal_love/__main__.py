"""`python -m steer_heal_love` is `shl`."""

from steer_heal_love.cli import main

if __name__ == "__main__":
    main()
