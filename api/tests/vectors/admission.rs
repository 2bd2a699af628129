//! What admission makes of objects.

use caracal_api::admission::{self, Operation};
use serde_json::json;

use super::{check, text};

#[test]
fn admission_vectors() {
    check("admission", |input| {
        let operation = match text(input, "operation") {
            "CREATE" => Operation::Create,
            _ => Operation::Update,
        };
        let mut object = input["object"].clone();
        admission::mutate(operation, &mut object);
        json!({"object": object})
    });
}
