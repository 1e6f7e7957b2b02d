#!/usr/bin/env bash
# The study of this folder with LoRA: 20 to 160 labels of 20 intents, 4 queries, 5 seeds. Run it again to resume: a finished
# run is found, an interrupted one goes on.
#   experiments/active_learning/run.sh DATA [--seeds 1 ...]
# DATA is the folder of banking77. About an hour on one core; curve.html in its folder shows the curves.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
data=$1
shift
# the first 20 intents in the order of the file
labels=card_arrival,card_linking,exchange_rate,card_payment_wrong_exchange_rate,extra_charge_on_statement
labels+=,pending_cash_withdrawal,fiat_currency_support,card_delivery_estimate,automatic_top_up
labels+=,card_not_working,exchange_via_app,lost_or_stolen_card,age_limit,pin_blocked,contactless_not_working
labels+=,top_up_by_bank_transfer_charge,pending_top_up,cancel_transfer,top_up_limits
labels+=,wrong_amount_of_cash_received
"${PYTHON:-.venv/bin/python}" -m peftlab active +experiment=banking77_lora "data.path=$data" "data.subset={labels:[$labels]}" \
  "logger=[]" "callbacks=[progress]" trainer.precision=32-true model.pooling=mean budget.max_epochs=null budget.max_steps=40 data.batch_size=16 \
  budget.eval_examples=400 --query random --query breaking_ties --query entropy --query badge \
  --initial 20 --batch 20 --rounds 7 --seeds 5 --out runs/active/banking77_lora "$@"
