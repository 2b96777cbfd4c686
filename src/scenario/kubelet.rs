//! From what a scenario file says to the kubelets of a pool to their configuration.

use std::collections::BTreeMap;

use crate::api::resources::Resources;
use crate::engine::time::SimDuration;
use crate::kubelet::Configuration;
use crate::kubelet::configuration::with_allocatable;
use crate::kubelet::shutdown::ShutdownGrace;
use crate::kubelet::thresholds::{Level, Signal, Threshold};

use crate::runtime::span::Span;

use super::build::Complaint;
use super::file::amount::Amount;
use super::file::cluster::KubeletConfigFile;

/// The configuration; what is not given is as Kubernetes has it.
pub fn configuration(file: &KubeletConfigFile, path: &str, complaints: &mut Vec<Complaint>) -> Configuration {
    let default = Configuration::default();
    let mut images = default.image_collection;
    images.high_percent = file.image_gc_high_threshold_percent.unwrap_or(images.high_percent);
    images.low_percent = file.image_gc_low_threshold_percent.unwrap_or(images.low_percent);
    images.least_age = file.image_minimum_gc_age.map_or(images.least_age, |span| span.0);
    if images.high_percent > 100 || images.low_percent > images.high_percent {
        let message = "the low threshold is above the high one, or that above 100".to_owned();
        complaints.push((format!("{path}.imageGCHighThresholdPercent"), message, None));
    }
    let parallel_pulls = match (file.serialize_image_pulls, file.max_parallel_image_pulls) {
        (None | Some(true), None | Some(1)) => 1,
        (None | Some(true), Some(_)) => {
            let message = "images are pulled one after the other unless serializeImagePulls is false".to_owned();
            complaints.push((format!("{path}.maxParallelImagePulls"), message, None));
            1
        }
        (Some(false), most) => most.unwrap_or(0),
    };
    let mut reserved = Resources::default();
    for (field, amounts) in [("systemReserved", &file.system_reserved), ("kubeReserved", &file.kube_reserved)] {
        reserve(&mut reserved, amounts, &format!("{path}.{field}"), complaints);
    }
    Configuration {
        thresholds: thresholds(file, path, complaints),
        pressure_transition: file
            .eviction_pressure_transition_period
            .map_or(default.pressure_transition, |span| span.0),
        longest_eviction_grace: file.eviction_max_pod_grace_period.map_or(default.longest_eviction_grace, i64::from),
        reserved,
        image_collection: images,
        parallel_pulls,
        pids: file.pid_max.map_or(default.pids, i64::from),
        inodes: file.inodes.map(i64::from),
        shutdown: shutdown(file, path, complaints),
    }
}

fn shutdown(file: &KubeletConfigFile, path: &str, complaints: &mut Vec<Complaint>) -> ShutdownGrace {
    let length = |span: Option<Span>| span.map_or(SimDuration::ZERO, |span| span.0);
    let (total, critical) = (length(file.shutdown_grace_period), length(file.shutdown_grace_period_critical_pods));
    if critical > total {
        let message = "critical pods cannot have more than all of shutdownGracePeriod".to_owned();
        complaints.push((format!("{path}.shutdownGracePeriodCriticalPods"), message, None));
    }
    ShutdownGrace { total, critical }
}

fn reserve(reserved: &mut Resources, amounts: &BTreeMap<String, Amount>, path: &str, complaints: &mut Vec<Complaint>) {
    for (name, amount) in amounts {
        match name.as_str() {
            "cpu" => reserved.milli_cpu += amount.0.milli_value(),
            "memory" => reserved.memory += amount.0.value(),
            "ephemeral-storage" => reserved.ephemeral_storage += amount.0.value(),
            _ => {
                let expected = Some("expected cpu, memory or ephemeral-storage".to_owned());
                complaints.push((format!("{path}[{name}]"), format!("{name:?} cannot be reserved"), expected));
            }
        }
    }
}

/// Hard thresholds, those that follow from them, soft ones (eviction, `ParseThresholdConfig`).
fn thresholds(file: &KubeletConfigFile, path: &str, complaints: &mut Vec<Complaint>) -> Vec<Threshold> {
    let mut read = |field: &str, given: &BTreeMap<String, String>| {
        let mut levels: Vec<(Signal, Level)> = Vec::new();
        for (name, text) in given {
            let path = format!("{path}.{field}[{name}]");
            let expected = "expected memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree or pid.available";
            let expected = Some(expected.to_owned());
            match (Signal::of(name), Level::parse(text)) {
                (None, _) => complaints.push((path, format!("{name:?} is no signal"), expected)),
                (_, Err(why)) => complaints.push((path, why, None)),
                (Some(signal), Ok(level)) => levels.push((signal, level)),
            }
        }
        levels
    };
    let hard = file.eviction_hard.as_ref().map(|given| read("evictionHard", given));
    let soft = read("evictionSoft", &file.eviction_soft);
    let reclaim = read("evictionMinimumReclaim", &file.eviction_minimum_reclaim);
    let hard = hard.map_or_else(Threshold::defaults, |levels| {
        levels.into_iter().map(|(signal, level)| Threshold::hard(signal, level)).collect()
    });
    let mut all = with_allocatable(hard);
    for (signal, level) in soft {
        let grace = file.eviction_soft_grace_period.iter().find(|(name, _)| Signal::of(name) == Some(signal));
        let grace = grace.map(|(_, span)| span.0).filter(|grace| *grace > SimDuration::ZERO);
        if grace.is_none() {
            let message = "grace period must be specified for the soft eviction threshold".to_owned();
            complaints.push((format!("{path}.evictionSoft"), message, None));
        }
        all.push(Threshold { grace: grace.unwrap_or(SimDuration::from_secs(1)), ..Threshold::hard(signal, level) });
    }
    for threshold in &mut all {
        threshold.reclaim = reclaim.iter().find(|(signal, _)| *signal == threshold.signal).map(|(_, level)| *level);
    }
    all
}
