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
# the first 20 intents in the order of the alphabet
labels=Refund_not_showing_up,activate_my_card,age_limit,apple_pay_or_google_pay,atm_support,automatic_top_up
labels+=,balance_not_updated_after_bank_transfer,balance_not_updated_after_cheque_or_cash_deposit,beneficiary_not_allowed
labels+=,cancel_transfer,card_about_to_expire,card_acceptance,card_arrival,card_delivery_estimate,card_linking
labels+=,card_not_working,card_payment_fee_charged,card_payment_not_recognised,card_payment_wrong_exchange_rate,card_swallowed
"${PYTHON:-.venv/bin/python}" -m peftlab active +experiment=banking77_lora "data.path=$data" "data.subset={labels:[$labels]}" \
  "logger=[]" "callbacks=[progress]" model.pooling=mean budget.max_epochs=null budget.max_steps=40 data.batch_size=16 \
  budget.eval_examples=400 --query random --query breaking_ties --query entropy --query badge \
  --initial 20 --batch 20 --rounds 7 --seeds 5 --out runs/active/banking77_lora "$@"
