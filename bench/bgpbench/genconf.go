package main

import (
	"flag"
	"fmt"
	"strings"
)

// genconf prints a configuration for a well-known daemon that fits conv or
// nodes, so that all of them are asked for the same thing.
func genconf(args []string) {
	fs := flag.NewFlagSet("genconf", flag.ExitOnError)
	kind := fs.String("kind", "bird", "caracal | bird | frr | gobgp")
	local := fs.String("local", "10.99.0.1", "address of the daemon")
	as := fs.Uint("as", 65000, "its AS")
	family := fs.Int("family", 4, "4 or 6")
	ibgp := fs.Bool("ibgp", false, "peers are internal")
	rr := fs.Bool("rr", false, "peers are route reflector clients (implies -ibgp)")
	senders := fs.Int("senders", 0, "")
	sbase := fs.String("sender-base", "10.99.1.1", "")
	sas := fs.Uint("sender-as", 65101, "")
	receivers := fs.Int("receivers", 0, "")
	rbase := fs.String("receiver-base", "10.99.2.1", "")
	ras := fs.Uint("receiver-as", 65301, "")
	nn := fs.Int("nodes", 0, "")
	nbase := fs.String("node-base", "10.99.4.1", "")
	nas := fs.Uint("node-as", 65500, "")
	fib := fs.Bool("fib", false, "install the routes in the kernel")
	threads := fs.Int("threads", 0, "bird 3: worker threads (0: leave the default)")
	hold := fs.Int("hold", 90, "")
	fs.Parse(args)
	if *rr {
		*ibgp = true
	}
	type peer struct {
		ip string
		as uint
	}
	var ps []peer
	add := func(n int, base string, a uint) {
		for i := 0; i < n; i++ {
			x := a + uint(i)
			if *ibgp {
				x = *as
			}
			ps = append(ps, peer{ipAdd(base, i).String(), x})
		}
	}
	add(*senders, *sbase, *sas)
	add(*receivers, *rbase, *ras)
	add(*nn, *nbase, *nas)
	fam := fmt.Sprintf("ipv%d", *family)
	var b strings.Builder
	p := func(f string, a ...any) { fmt.Fprintf(&b, f+"\n", a...) }
	switch *kind {
	case "caracal":
		p("localAs: %d\nrouterId: 10.99.0.1\nlisten:\n- address: %s", *as, *local)
		if !*fib {
			p("kernelExport: [nothing]\npolicies:\n  nothing:\n    terms:\n    - then: reject")
		}
		p("peers:")
		for i, q := range ps {
			p("- name: p%d\n  address: %s\n  remoteAs: %d\n  passive: true\n  families: [ipv%d]", i, q.ip, q.as, *family)
			p("  timers: {holdSeconds: %d}", *hold)
			if *rr {
				p("  reflectorClient: 10.99.0.1")
			}
		}
	case "bird":
		p("log stderr { error, fatal, bug };")
		p("router id 10.99.0.1;")
		if *threads > 0 {
			p("threads %d;", *threads)
		}
		p("protocol device { scan time 60; }")
		p("protocol direct { %s; }", fam)
		exp := "none"
		if *fib {
			exp = `filter { if source = RTS_BGP then accept; reject; }`
		}
		p("protocol kernel { scan time 3600; %s { import none; export %s; }; }", fam, exp)
		p("template bgp peers {\n  local %s as %d;\n  passive yes;\n  hold time %d;", *local, *as, *hold)
		if *rr {
			p("  rr client;")
		}
		p("  %s { import all; export all; };\n}", fam)
		for i, q := range ps {
			p("protocol bgp p%d from peers { neighbor %s as %d; }", i, q.ip, q.as)
		}
	case "frr":
		p("frr defaults datacenter\nlog stdout errors\nservice integrated-vtysh-config")
		p("router bgp %d\n bgp router-id 10.99.0.1\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n bgp log-neighbor-changes", *as)
		for _, q := range ps {
			p(" neighbor %s remote-as %d\n neighbor %s passive\n neighbor %s timers %d %d", q.ip, q.as, q.ip, q.ip, *hold/3, *hold)
		}
		p(" address-family %s unicast", fam)
		for _, q := range ps {
			p("  neighbor %s activate", q.ip)
			if *rr {
				p("  neighbor %s route-reflector-client", q.ip)
			}
		}
		p(" exit-address-family\nexit")
	case "gobgp":
		p("[global.config]\n  as = %d\n  router-id = \"10.99.0.1\"\n  local-address-list = [\"%s\"]", *as, *local)
		for _, q := range ps {
			p("[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"%s\"\n    peer-as = %d", q.ip, q.as)
			p("  [neighbors.transport.config]\n    passive-mode = true\n    local-address = \"%s\"", *local)
			p("  [neighbors.timers.config]\n    hold-time = %d\n    keepalive-interval = %d", *hold, *hold/3)
			if *rr {
				p("  [neighbors.route-reflector.config]\n    route-reflector-client = true\n    route-reflector-cluster-id = \"10.99.0.1\"")
			}
			p("  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"%s-unicast\"", fam)
		}
	default:
		die("unknown kind %q", *kind)
	}
	fmt.Print(b.String())
}
