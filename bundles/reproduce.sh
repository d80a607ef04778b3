#!/usr/bin/env bash
# Train and seal a bundle that ships, again: bundles/reproduce.sh fashion-mnist|cifar10 DATA [RUNS]
#
# DATA: folder of train.parquet and test.parquet. RUNS: where runs and the bundle are put, runs/ship
# if left out. What was stopped goes on; a finished run is kept. Hours on a CPU core; train/LOG.md
# has the figures of the bundle in this folder, its manifest the versions and the commit.
set -euo pipefail

if [ $# -lt 2 ] || [ ! -f "$2/train.parquet" ] || [ ! -f "$2/test.parquet" ]; then
  sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
name=$1 data=$2 runs=${3:-runs/ship}

train() { # RUN FLAGS...: begin it, or go on with it
  if [ -f "$runs/$1/run.json" ]; then
    oodgate train --resume --out "$runs/$1"
  else
    oodgate train --data "$data/train.parquet" --out "$runs/$1" "${@:2}"
  fi
}

case $name in
  fashion-mnist)
    train fashion-mnist --recipe fashion-mnist
    train fashion-mnist-flow --recipe fashion-mnist --beta 0 --epochs 4 --init "$runs/fashion-mnist"
    ;;
  cifar10)
    # first a good density, then more weight on the classes
    train cifar10-begun --recipe cifar10 --beta 1 --dropout 0 --epochs 16
    train cifar10 --recipe cifar10 --beta 8 --dropout 0.05 --epochs 10 --init "$runs/cifar10-begun"
    train cifar10-flow --recipe cifar10 --beta 0 --epochs 4 --init "$runs/cifar10-begun"
    ;;
  *)
    echo "$name: expected fashion-mnist or cifar10" >&2
    exit 2
    ;;
esac
oodgate calibrate "$runs/$name" --data "$data/train.parquet" --test "$data/test.parquet" \
  --flow "$runs/$name-flow" --out "$runs/$name-bundle"
