//! ClusterInformation: facts about the cluster, one object named `default`.

resource! {
    #[kube(
        kind = "ClusterInformation",
        plural = "clusterinformations",
        shortname = "clusterinfo",
        doc = "Facts about the cluster; one object, named default."
    )]
    /// Spec of the ClusterInformation.
    pub struct ClusterInformationSpec {
        /// Identity of the cluster, 32 hexadecimal digits.
        #[serde(rename = "clusterGUID")]
        pub cluster_guid: String,
        /// Comma-separated list of what runs the cluster.
        pub cluster_type: String,
        /// Version of the newest component that started.
        pub calico_version: String,
        /// False while the datastore must not be used: components wait.
        pub datastore_ready: Option<bool>,
        /// Variant of the product.
        pub variant: String,
    }
}
