//! The messages that are known, by the field numbers of Kubernetes.

use super::Kind::{
    BytesMap, Ignored, IntOrString, Message as One, Messages, Number, OptionalBool, OptionalNumber,
    QuantityMap, Text, TextMap, Texts, Time,
};
use super::Message;

/// The message of a kind.
pub(super) fn of(api_version: &str, kind: &str) -> Option<Message> {
    Some(match (api_version, kind) {
        ("v1", "Namespace") => &[
            (1, "metadata", One(META)),
            (2, "spec", One(&[(1, "finalizers", Texts)])),
            STATUS,
        ],
        ("v1", "ConfigMap") => &[
            (1, "metadata", One(META)),
            (2, "data", TextMap),
            (3, "binaryData", BytesMap),
            (4, "immutable", OptionalBool),
        ],
        ("v1", "Secret") => &[
            (1, "metadata", One(META)),
            (2, "data", BytesMap),
            (3, "type", Text),
            (4, "stringData", TextMap),
            (5, "immutable", OptionalBool),
        ],
        ("v1", "ResourceQuota") => &[
            (1, "metadata", One(META)),
            (2, "spec", One(&[(1, "hard", QuantityMap), (2, "scopes", Texts)])),
            STATUS,
        ],
        ("v1", "ServiceAccount") => &[
            (1, "metadata", One(META)),
            (2, "secrets", Messages(REFERENCE)),
            (3, "imagePullSecrets", Messages(&[(1, "name", Text)])),
            (4, "automountServiceAccountToken", OptionalBool),
        ],
        ("v1", "Service") => &[(1, "metadata", One(META)), (2, "spec", One(SERVICE)), STATUS],
        ("v1", "Pod") => &[(1, "metadata", One(META)), (2, "spec", One(POD)), STATUS],
        ("apps/v1", "Deployment") => &[(1, "metadata", One(META)), (2, "spec", One(DEPLOYMENT)), STATUS],
        ("authentication.k8s.io/v1", "TokenRequest") => &[
            (1, "metadata", One(META)),
            (
                2,
                "spec",
                One(&[
                    (1, "audiences", Texts),
                    (
                        3,
                        "boundObjectRef",
                        One(&[
                            (1, "kind", Text),
                            (2, "apiVersion", Text),
                            (3, "name", Text),
                            (4, "uid", Text),
                        ]),
                    ),
                    (4, "expirationSeconds", OptionalNumber),
                ]),
            ),
            STATUS,
        ],
        ("authentication.k8s.io/v1", "SelfSubjectReview") => {
            &[(1, "metadata", One(META)), (2, "status", Ignored)]
        }
        ("authentication.k8s.io/v1", "TokenReview") => &[
            (1, "metadata", One(META)),
            (2, "spec", One(&[(1, "token", Text), (2, "audiences", Texts)])),
            STATUS,
        ],
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => {
            &[(1, "metadata", One(META)), (2, "spec", One(ACCESS)), STATUS]
        }
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => &[
            (1, "metadata", One(META)),
            (2, "spec", One(&[(1, "namespace", Text)])),
            STATUS,
        ],
        (_, "DeleteOptions") => &[
            (1, "gracePeriodSeconds", OptionalNumber),
            (
                2,
                "preconditions",
                One(&[(1, "uid", Text), (2, "resourceVersion", Text)]),
            ),
            (3, "orphanDependents", OptionalBool),
            (4, "propagationPolicy", Text),
            (5, "dryRun", Texts),
        ],
        _ => return None,
    })
}

const STATUS: (u64, &str, super::Kind) = (3, "status", Ignored);

/// What somebody may do, of resources or of other paths.
const ACCESS: Message = &[
    (
        1,
        "resourceAttributes",
        One(&[
            (1, "namespace", Text),
            (2, "verb", Text),
            (3, "group", Text),
            (4, "version", Text),
            (5, "resource", Text),
            (6, "subresource", Text),
            (7, "name", Text),
        ]),
    ),
    (
        2,
        "nonResourceAttributes",
        One(&[(1, "path", Text), (2, "verb", Text)]),
    ),
];

const META: Message = &[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (4, "selfLink", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (7, "generation", Number),
    (8, "creationTimestamp", Time),
    (9, "deletionTimestamp", Time),
    (10, "deletionGracePeriodSeconds", OptionalNumber),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
    (
        13,
        "ownerReferences",
        Messages(&[
            (1, "kind", Text),
            (3, "name", Text),
            (4, "uid", Text),
            (5, "apiVersion", Text),
            (6, "controller", OptionalBool),
            (7, "blockOwnerDeletion", OptionalBool),
        ]),
    ),
    (14, "finalizers", Texts),
    (17, "managedFields", Ignored),
];

const REFERENCE: Message = &[
    (1, "kind", Text),
    (2, "namespace", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "resourceVersion", Text),
    (7, "fieldPath", Text),
];

const SERVICE: Message = &[
    (
        1,
        "ports",
        Messages(&[
            (1, "name", Text),
            (2, "protocol", Text),
            (3, "port", Number),
            (4, "targetPort", IntOrString),
            (5, "nodePort", Number),
            (6, "appProtocol", Text),
        ]),
    ),
    (2, "selector", TextMap),
    (3, "clusterIP", Text),
    (4, "type", Text),
    (5, "externalIPs", Texts),
    (7, "sessionAffinity", Text),
    (8, "loadBalancerIP", Text),
    (9, "loadBalancerSourceRanges", Texts),
    (10, "externalName", Text),
    (11, "externalTrafficPolicy", Text),
    (17, "ipFamilyPolicy", Text),
    (18, "clusterIPs", Texts),
    (19, "ipFamilies", Texts),
    (22, "internalTrafficPolicy", Text),
];

const CONTAINER: Message = &[
    (1, "name", Text),
    (2, "image", Text),
    (3, "command", Texts),
    (4, "args", Texts),
    (5, "workingDir", Text),
    (
        6,
        "ports",
        Messages(&[
            (1, "name", Text),
            (2, "hostPort", Number),
            (3, "containerPort", Number),
            (4, "protocol", Text),
            (5, "hostIP", Text),
        ]),
    ),
    (7, "env", Messages(&[(1, "name", Text), (2, "value", Text)])),
    (13, "terminationMessagePath", Text),
    (14, "imagePullPolicy", Text),
    (20, "terminationMessagePolicy", Text),
];

const POD: Message = &[
    (2, "containers", Messages(CONTAINER)),
    (3, "restartPolicy", Text),
    (4, "terminationGracePeriodSeconds", OptionalNumber),
    (5, "activeDeadlineSeconds", OptionalNumber),
    (6, "dnsPolicy", Text),
    (7, "nodeSelector", TextMap),
    (8, "serviceAccountName", Text),
    (9, "serviceAccount", Text),
    (10, "nodeName", Text),
    (16, "hostname", Text),
    (17, "subdomain", Text),
    (19, "schedulerName", Text),
    (20, "initContainers", Messages(CONTAINER)),
];

const DEPLOYMENT: Message = &[
    (1, "replicas", OptionalNumber),
    (
        2,
        "selector",
        One(&[
            (1, "matchLabels", TextMap),
            (
                2,
                "matchExpressions",
                Messages(&[(1, "key", Text), (2, "operator", Text), (3, "values", Texts)]),
            ),
        ]),
    ),
    (
        3,
        "template",
        One(&[(1, "metadata", One(META)), (2, "spec", One(POD))]),
    ),
    (
        4,
        "strategy",
        One(&[
            (1, "type", Text),
            (
                2,
                "rollingUpdate",
                One(&[(1, "maxUnavailable", IntOrString), (2, "maxSurge", IntOrString)]),
            ),
        ]),
    ),
    (5, "minReadySeconds", Number),
    (6, "revisionHistoryLimit", OptionalNumber),
    (9, "progressDeadlineSeconds", OptionalNumber),
];
