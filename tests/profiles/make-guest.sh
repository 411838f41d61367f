#!/bin/sh
# Makes guests of other origins in the folder $1, from the kernel and the root of the default guest.
set -eu
out=$1
mkdir -p "$out"
made=$("${PROVIUM:?names the provium executable}" setup)
base=$(echo "$made" | awk '$1 == "root" { print $2 }')
guest=$(dirname "$base")
cp "$guest/kernel" "$out/bzImage"
cp "$(echo "$made" | awk '$1 == "kernel" { print $2 }')" "$out/vmlinux"
gzip -c "$base" > "$out/initrd.cpio.gz"
printf 'this is no archive' > "$out/broken.cpio"

# A root folder: kernel, busybox by one name, and an init.
rm -rf "$out/root"
mkdir -p "$out/root/boot" "$out/root/bin" "$out/root/sbin" "$out/root/proc" "$out/root/dev" \
  "$out/root/sys" "$out/root/tmp" "$out/root/etc"
cp "$guest/kernel" "$out/root/boot/vmlinuz-0-test"
cp "$guest/busybox" "$out/root/bin/busybox"
ln -s busybox "$out/root/bin/sh"
cat > "$out/root/sbin/init" <<'INIT'
#!/bin/sh
busybox mount -t proc proc /proc
echo started > /tmp/init-ran
exec busybox sleep 1000000
INIT
chmod 755 "$out/root/sbin/init"
