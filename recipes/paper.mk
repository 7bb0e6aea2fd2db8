# The study of the paper preset; the Makefile includes this file.
PAPER_RUN ?= runs/paper
OF_PAPER = --checkpoint $(PAPER_RUN)/checkpoint.npz --calibration 32
TRAIN_PAPER = $(TRAIN) --preset paper --audio-norm batch --layer-scale 0.1

.PHONY: paper-study paper-tables

# The paper preset, trained (small inputs first), quantized and pruned. Two hours on two cores with AVX-512, by oneDNN's
# kernels; only the measurements are committed.
paper-study: export TF_ENABLE_ONEDNN_OPTS = 1
paper-study:
	$(PYTHON) -m recordings synthesize --out data/paper-small --count 3000 --seed 2
	$(PYTHON) -m recordings synthesize --out data/paper-full --count 1200 --seed 3
	$(TRAIN_PAPER) --data data/paper-small --out $(PAPER_RUN)-small --inputs nano --settings recipes/paper-small.toml
	$(TRAIN_PAPER) --data data/paper-full --out $(PAPER_RUN) --init $(PAPER_RUN)-small/checkpoint.npz --settings recipes/paper.toml
	$(BENCHMARKS) accuracy $(OF_PAPER) --recordings 400 --analyzed 4 --out $(RESULTS)/paper.json
	$(BENCHMARKS) pruning $(OF_PAPER) --recordings 400 --data data/paper-full --shares 0.5 0.25 --seed 1 --also parameters time \
		--settings recipes/paper-pruning.toml --folder runs/pruning-paper --out $(RESULTS)/pruning-paper.json

# Its tables and figures, on a machine without other work.
paper-tables:
	$(BENCHMARKS) table1 $(OF_PAPER) --recordings 400 --pruned runs/pruning-paper/0.5/run/checkpoint.npz \
		--folder runs/table1-paper --out $(RESULTS)/table1-paper.json
