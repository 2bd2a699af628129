# A thin front: each target is one line or one script, so that people and CI run the same.
.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO ?= cargo

## First ten minutes
.PHONY: help deps build demo test
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

deps: ## install what the machine lacks (Debian packages, Rust toolchain)
	@scripts/deps.sh

build: deps ## build every binary into target/release
	$(CARGO) build --locked --release --bins

demo: build ## a data centre on this machine: pods, BGP, policy (KEEP=1 leaves it standing)
	@scripts/demo.sh

test: build ## every suite: unit, property, network namespaces, the demo's scenario
	@scripts/test.sh

## While working on it
.PHONY: check fmt crds docs-cli docs-chart reference bench-ctl test-unit test-netns test-kill test-policy-kernel test-rbac test-chart test-docs test-e2e bench-ipam explore-ipam bench-cni images dist-cni stress-cni test-kube kube-build bench-api clean
check: ## formatting, clippy, licences and doors, generated files
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) run --locked -q -p xtask -- crds --check
	$(CARGO) run --locked -q -p xtask -- resources --check
	@scripts/deny.sh

fmt: ## format
	$(CARGO) fmt --all

crds: ## write charts/caracal-crds from the resource types
	$(CARGO) run --locked -q -p xtask -- crds

docs-cli: ## write docs/cli.md from caracalctl's own definitions
	$(CARGO) run --locked -q -p caracal-ctl --bin caracalctl -- reference > docs/cli.md.new && mv docs/cli.md.new docs/cli.md

docs-chart: ## write docs/reference/chart-values.md from the chart's values
	@scripts/chart-values.sh

bench-ctl: ## caracalctl beside kubectl: get and apply of 1,000 policies (docs/performance.md)
	$(CARGO) build --locked --release -p caracal-apiserver -p caracal-ctl
	@scripts/bench-ctl.sh
reference: ## write docs/reference and docs/node.md's variables from the definitions and tables in the code
	$(CARGO) run --locked -q -p xtask -- resources
	CARACAL_WRITE_REFERENCE=1 $(CARGO) test --locked -q -p caracal-node --lib the_documentation_has_the_table
	CARACAL_WRITE_REFERENCE=1 $(CARGO) test --locked -q -p caracal-felix-core --test reference

test-unit: ## what needs neither root nor network
	@scripts/test.sh unit

test-netns: build ## what needs root and network namespaces
	@scripts/test.sh netns

test-kill: ## kill the embedded API a thousand times under load; nothing acknowledged may be lost
	CARACAL_KILLS=$${CARACAL_KILLS:-1000} $(CARGO) test --locked -p caracal-apiserver --test program -- --nocapture survives

test-policy-kernel: ## random policies and packets, the model against the kernel, both backends (CARACAL_KERNEL_CASES=1000 CARACAL_SEED=1)
	CARACAL_KERNEL_CASES=$${CARACAL_KERNEL_CASES:-1000} CARACAL_SEED=$${CARACAL_SEED:-1} $(CARGO) test --locked -p caracal-felix --test policy_kernel -- --nocapture

test-rbac: build ## the controllers with the chart's rights, on the empty cluster of KUBECONFIG
	@scripts/test-rbac.sh

test-chart: ## the chart without a cluster: lint, rendering, contradictions, alerts (UPDATE=1 writes the golden file anew)
	@scripts/test-chart.sh

test-docs: ## pages, links, commands and resources of the documentation
	@scripts/test-docs.sh

test-e2e: ## the chart on real nodes, judged by upstream's tests (PART=smoke|churn NODES=2 FOCUS=Netpol PROXY=nftables KEEP=1)
	@scripts/test-e2e.sh $(PART)

bench-ipam: ## allocations per second with 1, 10 and 100 nodes (CARACAL_BENCH_KUBECONFIG: on that server too)
	$(CARGO) bench --locked -p caracal-ipam --bench contention

explore-ipam: ## the allocator's protocol in every order, in wide scopes (half an hour)
	CARACAL_IPAM_EXPLORE=25 $(CARGO) test --locked --release -p caracal-ipam --lib sim -- --nocapture

bench-cni: ## what an ADD and a DEL cost beside reference plugins and the bare kernel work (COUNT=200)
	@scripts/bench-cni.sh $${COUNT:-200}

images: ## container images as OCI archives, static and without a shell (BIN=, ARCHS=, PROFILE=, OUT=, TAG=)
	@scripts/images.sh

dist-cni: ## the plugins as they are shipped (static where the musl target is installed)
	@scripts/dist-cni.sh

stress-cni: ## 10000 ADDs and DELs while plugins and daemon are killed; nothing may be left or given twice
	CARACAL_STRESS=$${CARACAL_STRESS:-10000} $(CARGO) test --locked --release -p caracal-cni --test stress -- --nocapture kills

kube-build: ## build etcd, kube-apiserver and kubectl from Go modules, once (20 minutes; KUBE="cluster e2e.test": nodes too)
	@scripts/kubernetes/build.sh $(KUBE)

test-kube: ## the datastore's suite against kube-apiserver on etcd (RECORD=1 writes its answers anew)
	@scripts/test-kube.sh

bench-api: ## the embedded API server beside kube-apiserver and etcd, as a table (OBJECTS=100000)
	@scripts/bench-api.sh $(OBJECTS)

clean: ## remove build output
	$(CARGO) clean

## Measurements
.PHONY: bench-felix-core
bench-felix-core: ## the policy calculation alone: time and memory at the sizes of the goals
	$(CARGO) bench --locked -p caracal-felix-core --bench calculation

.PHONY: bench-felix
bench-felix: ## felix on a node: start, changes, traffic, memory, both backends (BACKEND=nftables for one)
	@scripts/bench-felix.sh $${BACKEND:-both}

.PHONY: bench-bgpd
bench-bgpd: build ## bgpd beside BIRD, FRR and GoBGP (LONG=1: a million prefixes too)
	@scripts/bench-bgpd.sh

.PHONY: interop fuzz-bgpd
interop: ## BGP sessions with BIRD, FRR, GoBGP and ExaBGP (docs/bgp-interop.md)
	$(CARGO) test --locked -p caracal-bgpd --test interop -- --test-threads 4

fuzz-bgpd: ## mutated messages and sessions from the corpus of fuzz/ (RUNS=1000000 SEED=1; the nightly fuzzer: fuzz/Cargo.toml)
	CARACAL_FUZZ_RUNS=$(or $(RUNS),1000000) CARACAL_FUZZ_SEED=$(or $(SEED),1) $(CARGO) test --locked --release -p caracal-bgpd-core --test fuzz

.PHONY: sim-bgpd
sim-bgpd: ## BGP speakers against each other under faults from a seed (SEEDS=3000)
	CARACAL_SIM_SEEDS=$(or $(SEEDS),3000) $(CARGO) test --locked -p caracal-bgpd-core --test speakers simulation -- --nocapture
