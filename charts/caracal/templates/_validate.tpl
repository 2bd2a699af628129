{{- /* Values that contradict each other, refused with the reason and the remedy. What a single value may be is in
values.schema.json. */ -}}
{{- define "caracal.validate" -}}
{{- $network := include "caracal.calicoNetwork" . | fromJson -}}
{{- $bgp := include "caracal.bgpEnabled" . -}}
{{- $pools := (include "caracal.pools" . | fromJson).pools -}}
{{- $default := and (eq (len .Values.ipPools) 1) (eq (get (first .Values.ipPools) "cidr") "10.244.0.0/16") -}}
{{- if and (hasKey $network "ipPools") .Values.ipPools (not $default) -}}
{{- fail "ipPools and installation.calicoNetwork.ipPools both name pools; keep one of them" -}}
{{- end -}}
{{- with $network.linuxDataplane -}}
{{- if not (has . (list "Iptables" "Nftables")) -}}
{{- fail (printf "installation.calicoNetwork.linuxDataplane is %s, which Caracal does not have; set Nftables or Iptables" .) -}}
{{- end -}}
{{- end -}}
{{- if and (eq (default "" $network.linuxDataplane) "Nftables") (eq (toString (get .Values.felix.configuration "nftablesMode")) "Disabled") -}}
{{- fail "installation.calicoNetwork.linuxDataplane is Nftables and felix.configuration.nftablesMode is Disabled; remove one of them" -}}
{{- end -}}
{{- if and (eq (default "" $network.linuxDataplane) "Iptables") (eq (toString (get .Values.felix.configuration "nftablesMode")) "Enabled") -}}
{{- fail "installation.calicoNetwork.linuxDataplane is Iptables and felix.configuration.nftablesMode is Enabled; remove one of them" -}}
{{- end -}}
{{- if and (not $bgp) (or .Values.bgp.peers .Values.bgp.filters .Values.bgp.passwordSecrets) -}}
{{- fail "bgp.peers, bgp.filters or bgp.passwordSecrets are set, and BGP is off (bgp.enabled, installation.calicoNetwork.bgp); turn it on or remove them" -}}
{{- end -}}
{{- $names := dict -}}
{{- $cidrs := dict -}}
{{- range $index, $pool := $pools -}}
{{- include "caracal.validatePool" (dict "root" $ "pool" $pool "index" $index "bgp" $bgp) -}}
{{- if hasKey $names $pool.name -}}{{- fail (printf "two of ipPools have the name %s; names are unique" $pool.name) -}}{{- end -}}
{{- if hasKey $cidrs $pool.cidr -}}{{- fail (printf "the pools %s and %s both have cidr %s; pools must not overlap" (get $cidrs $pool.cidr) $pool.name $pool.cidr) -}}{{- end -}}
{{- $_ := set $names $pool.name true -}}
{{- $_ := set $cidrs $pool.cidr $pool.name -}}
{{- end -}}
{{- include "caracal.validateRest" . -}}
{{- end -}}

{{- define "caracal.validatePool" -}}
{{- $pool := .pool -}}
{{- $at := printf "ipPools[%d] (%s)" .index $pool.name -}}
{{- $ipip := default "Never" $pool.ipipMode -}}
{{- $vxlan := default "Never" $pool.vxlanMode -}}
{{- $isV6 := contains ":" $pool.cidr -}}
{{- $length := last (splitList "/" $pool.cidr) | int -}}
{{- $block := default (ternary 122 26 $isV6) $pool.blockSize | int -}}
{{- if and (ne $ipip "Never") (ne $vxlan "Never") -}}
{{- fail (printf "%s: ipipMode is %s and vxlanMode is %s; a pool is encapsulated in one way: set one of them to Never" $at $ipip $vxlan) -}}
{{- end -}}
{{- if and $isV6 (ne $ipip "Never") -}}
{{- fail (printf "%s: ipipMode is %s and the pool is IPv6, which IP-in-IP does not carry; set vxlanMode, or no encapsulation" $at $ipip) -}}
{{- end -}}
{{- if and $isV6 (or (lt $block 116) (gt $block 128)) -}}
{{- fail (printf "%s: blockSize is %d; of an IPv6 pool it must be from 116 to 128" $at $block) -}}
{{- end -}}
{{- if and (not $isV6) (or (lt $block 20) (gt $block 32)) -}}
{{- fail (printf "%s: blockSize is %d; of an IPv4 pool it must be from 20 to 32" $at $block) -}}
{{- end -}}
{{- if gt $length $block -}}
{{- fail (printf "%s: a block (/%d, blockSize) is larger than the pool %s; take a larger pool or a larger blockSize" $at $block $pool.cidr) -}}
{{- end -}}
{{- if and (not .bgp) (eq $vxlan "Never") (not $pool.disabled) (ne (toString (get .root.Values.felix.configuration "programClusterRoutes")) "Enabled") -}}
{{- fail (printf "%s: without BGP nothing routes to the pods of a pool that is not encapsulated in VXLAN; set vxlanMode: Always or CrossSubnet, or turn BGP on" $at) -}}
{{- end -}}
{{- if and $isV6 (eq (toString (get .root.Values.felix.configuration "ipv6Support")) "false") -}}
{{- fail (printf "%s: the pool is IPv6 and felix.configuration.ipv6Support is false; remove one of them" $at) -}}
{{- end -}}
{{- if and $isV6 (eq (include "caracal.ip6Method" .root) "") -}}
{{- fail (printf "%s: the pool is IPv6 and nodes get no IPv6 address; set node.ip6AutodetectionMethod (such as kubernetes-internal-ip)" $at) -}}
{{- end -}}
{{- end -}}

{{- define "caracal.validateRest" -}}
{{- with .Values.controllers -}}
{{- if and (ne .metricsAddress "none") (eq (int .metricsPort) (int .healthPort)) -}}
{{- fail (printf "controllers.metricsPort and controllers.healthPort are both %d; in the node's network each needs its own" (int .healthPort)) -}}
{{- end -}}
{{- if and .podDisruptionBudget.enabled (gt (int .replicas) 1) (ge (int .podDisruptionBudget.maxUnavailable) (int .replicas)) -}}
{{- fail (printf "controllers.podDisruptionBudget.maxUnavailable is %d of %d replicas, which keeps none; lower it" (int .podDisruptionBudget.maxUnavailable) (int .replicas)) -}}
{{- end -}}
{{- if and .serviceMonitor.enabled (eq .metricsAddress "none") -}}
{{- fail "controllers.serviceMonitor.enabled needs metrics, and controllers.metricsAddress is none; set an address" -}}
{{- end -}}
{{- end -}}
{{- with .Values.node -}}
{{- if and .podMonitor.enabled (has .metricsAddress (list "none" "127.0.0.1" "localhost" "::1")) -}}
{{- fail (printf "node.podMonitor.enabled needs metrics that Prometheus reaches, and node.metricsAddress is %s; set 0.0.0.0" .metricsAddress) -}}
{{- end -}}
{{- if and (ne .metricsAddress "none") (eq (int .felixMetricsPort) (int .bgpMetricsPort)) -}}
{{- fail (printf "node.felixMetricsPort and node.bgpMetricsPort are both %d; in the node's network each needs its own" (int .bgpMetricsPort)) -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (or (not .Values.serviceAccount.node) (not .Values.serviceAccount.controllers) (not .Values.serviceAccount.cni)) -}}
{{- fail "serviceAccount.create is false; name the accounts that exist in serviceAccount.node, serviceAccount.cni and serviceAccount.controllers" -}}
{{- end -}}
{{- $mtu := include "caracal.mtu" . | int -}}
{{- if and (ne $mtu 0) (lt $mtu 576) -}}
{{- fail (printf "cni.mtu is %d; IPv4 needs 576, IPv6 1280; set 0 to take it from the route" $mtu) -}}
{{- end -}}
{{- end -}}
