#!/usr/bin/env bash
# From the bundled samples to an evaluated LoRA adapter. What is already there is not done again.
set -euo pipefail
source "$(dirname "$0")/env.sh"
ensure_env gguf

RUN=runs/quickstart
SAMPLES=recipes/samples
MODEL=smollm2-135m
export TOKENIZERS_PARALLELISM=false

if [ ! -d "$RUN/data/train" ] || [ ! -d "$RUN/data/heldout" ]; then
    say "1/5  Converting the bundled samples into tokenized datasets"
    nlpft convert $SAMPLES/train_sharegpt.json $SAMPLES/train_alpaca.jsonl -o $RUN/data/train --model $MODEL --overwrite
    nlpft convert $SAMPLES/heldout.json -o $RUN/data/heldout --model $MODEL --overwrite
fi
if [ ! -d $RUN/model ]; then
    say "2/5  Training a LoRA adapter (two to three minutes on two cores)"
    # All that accelerate would otherwise warn of; its own default is one thread, also where the CPU is all there is.
    accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
        --num_cpu_threads_per_process "$(nproc)" recipes/sft.py --config recipes/configs/quickstart.yaml --resume
fi
if [ ! -d $RUN/eval/base ]; then
    say "3/5  Scoring the base model on the held-out rows"
    nlpft eval $MODEL --heldout $SAMPLES/heldout.json -o $RUN/eval/base
fi
if [ ! -d $RUN/eval/adapter ]; then
    say "4/5  Scoring the adapter on the same rows"
    nlpft eval $RUN --heldout $SAMPLES/heldout.json -o $RUN/eval/adapter
fi
if [ ! -f $RUN/report.html ]; then
    say "5/5  Writing the report"
    nlpft report $RUN
fi

say "Base model against adapter, on the same held-out rows"
nlpft compare $RUN/eval/base $RUN/eval/adapter
cat <<END

The page with everything: $RUN/report.html
Three things to try next (first: source .venv/bin/activate):
  nlpft chat $RUN --system "You keep the desk log."
      talk to the adapter: "On Monday Ben returned five cameras."
  nlpft inspect $RUN/data/train
      see which tokens were learnt
  nlpft convert YOUR_FILE.json -o data/mine
      your own conversations; then: nlpft train sft --data.train data/mine --output_dir runs/mine
END
