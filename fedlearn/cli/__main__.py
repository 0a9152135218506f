"""`python -m fedlearn.cli`, where the script `fedlearn` isn't installed."""

from fedlearn.cli.main import run

if __name__ == "__main__":
    run()
