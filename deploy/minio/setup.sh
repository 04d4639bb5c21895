#!/bin/sh
# Make the bucket, its lifecycle and the user of the roles. Running it again changes nothing.
# Needs nothing but a shell, cat and mc: the image has no grep and no sed.
set -eu
secret() { cat "${SECRETS:-/run/secrets}/$1"; }

# Through a variable and standard input, so that no process list shows them.
MC_HOST_store="http://$(secret minio_root_user):$(secret minio_root_password)@minio:9000"
export MC_HOST_store
user=$(secret TAMPERWATCH_BLOBS__ACCESS_KEY)

mc mb --ignore-existing "store/$BUCKET"

# Rules get a new number each time they are added: begin with none.
mc ilm rule rm --all --force "store/$BUCKET" >/dev/null 2>&1 || true
if [ -n "${PICTURES_KEPT_DAYS:-}" ]; then
    mc ilm rule add --prefix pictures/ --expire-days "$PICTURES_KEPT_DAYS" "store/$BUCKET"
fi

cat >"${TMPDIR:-/tmp}/policy.json" <<POLICY
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"],
      "Resource": ["arn:aws:s3:::$BUCKET"]
    },
    {
      "Effect": "Allow",
      "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
      "Resource": ["arn:aws:s3:::$BUCKET/*"]
    }
  ]
}
POLICY
mc admin policy create store tamperwatch "${TMPDIR:-/tmp}/policy.json"
printf '%s\n%s\n' "$user" "$(secret TAMPERWATCH_BLOBS__SECRET_KEY)" | mc admin user add store

# It refuses to attach what is attached already.
if ! mc admin policy attach store tamperwatch --user "$user"; then
    case "$(mc admin user info store "$user")" in
    *tamperwatch*) ;;
    *) exit 1 ;;
    esac
fi
echo "bucket $BUCKET is ready"
