//! Limits of bandwidth, packets and connections, from a pod's annotations.
//!
//! A value out of range counts as the nearest one within; one that does not parse, or that lacks what it builds on,
//! counts as absent. No annotation makes a pod fail.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use crate::meta;

/// Limits of an endpoint. Rates are bits or packets per second, bursts bits or packets, `minburst` bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it, each in both directions")]
pub struct QosControls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_bandwidth: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_bandwidth: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_burst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_burst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_peakrate: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_peakrate: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_minburst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_minburst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_packet_rate: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_packet_rate: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_packet_burst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_packet_burst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_max_connections: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_max_connections: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dscp: Option<IntOrString>,
}

const BANDWIDTH: (i64, i64) = (1_000, 1_000_000_000_000_000);
const BURST: (i64, i64) = (1_000, 34_359_738_360);
const BURST_DEFAULT: i64 = 4 << 30;
const PEAKRATE: (i64, i64) = (1_010, 1_010_000_000_000_000);
const MINBURST: (i64, i64) = (1_000, 100_000_000);
const PACKET_RATE: (i64, i64) = (1, 10_000);
const PACKET_BURST_DEFAULT: i64 = 5;
const CONNECTIONS: (i64, i64) = (1, 4_294_967_295);

/// One direction.
struct Direction {
    bandwidth: Option<i64>,
    burst: Option<i64>,
    peakrate: Option<i64>,
    minburst: Option<i64>,
    packet_rate: Option<i64>,
    packet_burst: Option<i64>,
    connections: Option<i64>,
}

pub(super) fn from_annotations(annotations: Option<&BTreeMap<String, String>>) -> Option<QosControls> {
    let annotations = annotations?;
    let ingress = direction(annotations, "ingress");
    let egress = direction(annotations, "egress");
    let controls = QosControls {
        ingress_bandwidth: ingress.bandwidth,
        egress_bandwidth: egress.bandwidth,
        ingress_burst: ingress.burst,
        egress_burst: egress.burst,
        ingress_peakrate: ingress.peakrate,
        egress_peakrate: egress.peakrate,
        ingress_minburst: ingress.minburst,
        egress_minburst: egress.minburst,
        ingress_packet_rate: ingress.packet_rate,
        egress_packet_rate: egress.packet_rate,
        ingress_packet_burst: ingress.packet_burst,
        egress_packet_burst: egress.packet_burst,
        ingress_max_connections: ingress.connections,
        egress_max_connections: egress.connections,
        dscp: annotations
            .get(&format!("{}dscp", meta::QOS_PREFIX))
            .and_then(|text| dscp(text)),
    };
    Some(controls).filter(|controls| *controls != QosControls::default())
}

fn direction(annotations: &BTreeMap<String, String>, direction: &str) -> Direction {
    let read = |suffix: &str, range: (i64, i64)| {
        let text = annotations.get(&format!("{}{direction}{suffix}", meta::QOS_PREFIX))?;
        Some(quantity(text)?.clamp(range.0, range.1))
    };
    let has_own = annotations.contains_key(&format!("{}{direction}Bandwidth", meta::QOS_PREFIX));
    let bandwidth = if has_own {
        read("Bandwidth", BANDWIDTH)
    } else {
        let text = annotations.get(&format!("kubernetes.io/{direction}-bandwidth"));
        text.and_then(|text| quantity(text))
            .map(|value| value.clamp(BANDWIDTH.0, BANDWIDTH.1))
    };
    let peakrate = read("Peakrate", PEAKRATE).filter(|peak| bandwidth.is_some_and(|rate| rate < *peak));
    let packet_rate = read("PacketRate", PACKET_RATE);
    Direction {
        bandwidth,
        burst: bandwidth.map(|_| read("Burst", BURST).unwrap_or(BURST_DEFAULT)),
        peakrate,
        minburst: peakrate.and_then(|_| read("Minburst", MINBURST)),
        packet_rate,
        packet_burst: packet_rate.map(|_| read("PacketBurst", PACKET_RATE).unwrap_or(PACKET_BURST_DEFAULT)),
        connections: read("MaxConnections", CONNECTIONS),
    }
}

/// A Kubernetes quantity, rounded up to a whole number.
fn quantity(text: &str) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 24 {
        return None;
    }
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let (multiplier, power) = scale(suffix)?;
    let power = power - i32::try_from(fraction.len()).ok()?;
    let factor = 10i128.checked_pow(power.unsigned_abs())?;
    let scaled = digits.checked_mul(multiplier)?;
    let value = if power >= 0 {
        scaled.checked_mul(factor)?
    } else if negative {
        scaled / factor
    } else {
        scaled.div_euclid(factor) + i128::from(scaled.rem_euclid(factor) != 0)
    };
    let value = if negative { -value } else { value };
    Some(i64::try_from(value).unwrap_or(if negative { i64::MIN } else { i64::MAX }))
}

/// Multiplier and power of ten of a suffix.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1i128 << (10 * power), 0));
    match suffix {
        "" => Some((1, 0)),
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => Some((
            1,
            exponent
                .strip_prefix(['e', 'E'])?
                .parse()
                .ok()
                .filter(|e| (-30..=30).contains(e))?,
        )),
    }
}

/// A code point: 0-63, or a name of RFC 2474, 2597 or 3246.
pub(crate) fn dscp(text: &str) -> Option<IntOrString> {
    if let Ok(number) = text.parse::<i32>() {
        return (0..=63).contains(&number).then_some(IntOrString::Int(number));
    }
    let is_known = matches!(
        (text.get(..2), text.get(2..).map(str::as_bytes)),
        (Some("DF" | "EF"), Some([]))
            | (Some("CS"), Some([b'0'..=b'7']))
            | (Some("AF"), Some([b'1'..=b'4', b'1'..=b'3']))
    );
    is_known.then(|| IntOrString::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_does() {
        for (text, value) in [
            ("10M", Some(10_000_000)),
            ("1.01k", Some(1_010)),
            ("4Gi", Some(4 << 30)),
            ("0.5", Some(1)),
            ("1500m", Some(2)),
            ("2e3", Some(2_000)),
            ("-1", Some(-1)),
            ("", None),
            ("M", None),
            ("1.2.3", None),
            ("10 M", None),
            ("10MB", None),
        ] {
            assert_eq!(quantity(text), value, "{text}");
        }
    }

    #[test]
    fn what_lacks_its_base_counts_as_absent() {
        let annotations = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| (format!("qos.projectcalico.org/{key}"), (*value).to_owned()))
                .collect()
        };
        let lone: BTreeMap<_, _> = annotations(&[("ingressBurst", "1M"), ("egressPacketBurst", "7")]);
        assert_eq!(from_annotations(Some(&lone)), None);
        let full: BTreeMap<_, _> = annotations(&[
            ("ingressBandwidth", "1"),
            ("egressPacketRate", "1M"),
            ("dscp", "AF11"),
        ]);
        let controls = from_annotations(Some(&full)).unwrap();
        assert_eq!(controls.ingress_bandwidth, Some(1_000));
        assert_eq!(controls.ingress_burst, Some(4 << 30));
        assert_eq!(controls.egress_packet_rate, Some(10_000));
        assert_eq!(controls.egress_packet_burst, Some(5));
        assert_eq!(controls.dscp, Some(IntOrString::String("AF11".to_owned())));
    }
}
